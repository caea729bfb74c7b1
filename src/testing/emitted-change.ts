/** The changes that a test emits: partly said, and completed as the triggers and a database would. */
import { isDeepStrictEqual } from 'node:util';
import type { AnyTables, ChangeEvent, Row, RowsByLocation } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import { Change } from '../capture/change.ts';
import type { Decoder, RowData } from '../delivery/row-decoder.ts';
import { BACKFILL_DIGITS, type Key, ROW_DIGITS, STRIDE, stampOf } from '../schema/log-layout.ts';

/** What may be left out. */
type Completed =
  | 'id'
  | 'key'
  | 'before'
  | 'after'
  | 'changed'
  | 'dataOmitted'
  | 'occurredAt'
  | 'transaction'
  | 'origin'
  | 'context';

type Emitted<Each> = Each extends ChangeEvent
  ? Pick<Each, 'location' | 'operation'> & Partial<Pick<Each, Completed>>
  : never;

/**
 * A change that a test emits: the `location` and the `operation`, and what else the test is about. By `Tables` the rows are typed as those of
 * {@link ChangeEvent}.
 *
 * - `id`: by default the row's column `id`, else what is in `key`, else a number that no other event has. `'*'` with a `delete` is a TRUNCATE.
 * - `key`: by default `{ id }`.
 * - `before`, `after`: by default null, as with `rows: 'none'`.
 * - `changed`: by default the columns that differ, if there are both sides.
 * - `occurredAt`: ISO 8601 in UTC, by default the present, by the clock that `advance` sets. `transaction`: by default another one for every event, and null for a row that is read.
 * - `dataOmitted`, `origin`, `context`: by default null.
 */
export type EmittedEvent<Tables extends RowsByLocation<Tables> = AnyTables> = Emitted<ChangeEvent<Tables>>;

/** A change with its rows as they were given. */
export class EmittedChange extends Change {
  readonly data: RowData;

  constructor(change: Change, sequence: string, data: RowData) {
    const { location, operation, id, key, occurredAt, transaction, stamp, details } = change;
    super(sequence, location, operation, id, key, occurredAt, transaction, stamp, details);
    this.data = data;
    // Any shape will do: it says that there is something to decode.
    this.shape = [];
  }

  /** The same change under another number. */
  under(sequence: string): EmittedChange {
    return new EmittedChange(this, sequence, this.data);
  }
}

/** As from a database, each event has rows of its own: what a handler does to one is not there when the event comes again. */
export const emittedDecoder: Decoder = {
  decode(change) {
    const { before, after, changed, dataOmitted } = (change as EmittedChange).data;
    return { before: copyOf(before), after: copyOf(after), changed: changed && [...changed], dataOmitted };
  },
};

/** Objects of classes, such as a Date, are not copied. */
function copyOf<Value>(value: Value): Value;
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, copyOf(each)]));
}

const UTC = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/;

/**
 * The `n`th change of an input. A row that is read has a sequence of its own kind.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID for a time that no event has
 */
export function emittedChange(
  { location, operation, before = null, after = null, ...said }: EmittedEvent,
  n: number,
  now: string,
): EmittedChange {
  const row = after ?? before;
  const id = said.id ?? idOf(said.key ?? null, row) ?? String(n);
  const key: Key = said.key !== undefined ? said.key : id === '*' ? null : { id };
  const at = said.occurredAt ?? now;
  if (!UTC.test(at))
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      `emit(): occurredAt has to be ISO 8601 in UTC, as toISOString() of a Date writes it, and is ${JSON.stringify(at)}`,
    );
  const isRead = operation === 'read';
  const sequence = isRead
    ? `1${'0'.repeat(BACKFILL_DIGITS - 1)}${String(n).padStart(ROW_DIGITS, '0')}`
    : String(n * STRIDE);
  const change = new Change(
    sequence,
    location,
    operation,
    id,
    key,
    at,
    said.transaction ?? (isRead ? null : String(n)),
    isRead ? '' : stampOf(at),
    {
      before: null,
      after: null,
      shape: null,
      origin: said.origin ?? null,
      context: said.context === undefined || said.context === null ? null : JSON.stringify(said.context),
    },
  );
  return new EmittedChange(change, sequence, {
    before: copyOf(before),
    after: copyOf(after),
    changed: said.changed === undefined ? changedColumns(before, after) : said.changed && [...said.changed],
    dataOmitted: said.dataOmitted ?? null,
  });
}

function idOf(key: Record<string, string> | null, row: Row | null): string | null {
  const id = (row?.['id'] ?? key?.['id'] ?? null) as string | number | bigint | null;
  if (id !== null) return String(id);
  const values = key && Object.values(key);
  if (!values || values.length === 0) return null;
  return values.length === 1 ? values[0]! : JSON.stringify(values);
}

const changedColumns = (before: Row | null, after: Row | null): string[] | null =>
  before && after && Object.keys(after).filter((name) => !isDeepStrictEqual(before[name], after[name]));
