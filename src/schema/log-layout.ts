/**
 * The layout of the change log: its columns, the sequences of its rows, and how changes are packed into a row.
 *
 * Row n of the log has sequence n x STRIDE. It has one of two forms:
 *
 *   single: `id`, `op` and `key` are those of one change, whose sequence is the row's own; `size` is null.
 *   packed: `size` changes of one statement and one operation. `id` is a JSON array of their ids. `key` is a JSON array of their
 *           keys, or the one key that they share. Change number i, counted from 1, has the row's sequence + i.
 *
 * When a part of a packed row is acknowledged, the row is deleted, and each of its other changes is put back as a single row
 * under the sequence that the change has. So a change keeps its sequence in either form, and a sequence says which row was
 * written with the change: the multiple of STRIDE below it.
 *
 * If somebody sets the sequence of rows back, a packed row can get the number of an earlier packed row, some of whose changes are still there as single
 * rows. Then a sequence would name two changes. So the reader does not hand such a packed row out as it is. It replaces the packed row by single rows, whose
 * sequences are a multiple of PACK higher: STRIDE leaves room for nine packed rows under one number. Until then nobody knows the changes of the packed
 * row, so an acknowledgement of one of these sequences means the single row.
 *
 * A server that loses commits, in a crash or a failover, allocates their numbers again. So the number alone does not name a change for
 * ever. The public sequence does: the number, followed by the time at which the change was written. Changes that version 1 of the functions
 * logged keep the number alone, as package version 0.1.0 told it. The functions of this version mark their rows: the JSON in `key` ends
 * with a space, and is never SQL's NULL. A column for it would take the log's strongest lock, which an open transaction of the application
 * can withhold for hours; and every version reads JSON with a space. The rows of a statement for which the table's condition `when` has failed end
 * with two spaces in `key`.
 *
 * `before` and `after` are the row as it was and as it is, where the input asks for them: each is the text of a composite value, whose fields
 * `shape` names. `shape` is the name of a shape in the table of shapes, the shape itself as JSON, or why there is no data although the
 * input asks for it. A packed row has the texts of its changes one after the other. `origin` and `context` are what the transaction says of itself.
 *
 * A change that was parked and redriven is a single row under the negative of its sequence, where no pass over the log meets it.
 *
 * A `key` is SQL's NULL, the JSON string of the column that `id` was taken from, or a JSON object of columns and values: only
 * the array of a packed row begins with `[`.
 */
import { quoteLiteral } from '../postgres/quoting.ts';
import { isoOf } from '../postgres/session.ts';
import type { ObjectName } from './names.ts';

/** How many sequences each row of the log has. */
export const STRIDE = 1000;
/** A statement that changes more rows than this is announced without its changes, and packed. */
export const FEW = 50;
/** Changes per packed row: a row and its place in the index cost more than a change does. */
export const PACK = 100;

const STRIDE_DIGITS = String(STRIDE).length - 1;
if (10 ** STRIDE_DIGITS !== STRIDE || PACK >= STRIDE)
  throw new Error('STRIDE must be a power of ten, and greater than PACK');

/** SQL: the sequence of a new row. */
export const nextRow = (sequence: ObjectName): string =>
  `nextval(${quoteLiteral(sequence.sql)}::regclass) * ${STRIDE}`;

export const logColumns = (sequence: ObjectName): string => `
  seq bigint PRIMARY KEY DEFAULT ${nextRow(sequence)},
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL,
  tbl text NOT NULL,
  id text NOT NULL,
  op text NOT NULL,
  key text,
  size integer,
  before text,
  after text,
  shape text,
  origin text,
  context text`;

/**
 * The columns that version 4 has added. A log of an earlier version may be without them for hours, while a transaction stays open that has
 * written to it. A statement that reads them takes them, unqualified, from the log beside {@link IN_PLACE_OF_ADDED}: where the log has no such
 * column, SQL takes it from there. PostgreSQL prepares the statement anew when the log has them.
 */
export const ADDED_COLUMNS = ['before', 'after', 'shape', 'origin', 'context'];
export const IN_PLACE_OF_ADDED = ADDED_COLUMNS.map((column) => `NULL::text AS ${column}`).join(', ');

/** The settings by which a transaction says of itself who writes and why. The columns `origin` and `context` have them as defaults. */
export const TAGS = { origin: 'postgres_input.origin', context: 'postgres_input.context' } as const;

/**
 * The actions of ALTER TABLE for what a column's definition can't say on every server. The log's own compression would cost as much as all else. A
 * setting that was made for one transaction is an empty text in the session's later ones.
 */
export const LOG_COLUMN_SETTINGS: readonly string[] = [
  ...['before', 'after'].map((column) => `ALTER COLUMN ${column} SET STORAGE EXTERNAL`),
  ...Object.entries(TAGS).map(
    ([column, setting]) =>
      `ALTER COLUMN ${column} SET DEFAULT nullif(pg_catalog.current_setting(${quoteLiteral(setting)}, true), '')`,
  ),
];

// Sequences, in SQL and in TypeScript.

/** SQL: the sequence of row number `n`, whose first change has it or comes right after it. */
export const sequenceOfRow = (n: string): string => `${n} * ${STRIDE}`;

/** SQL: the highest sequence that a change in row number `n` can have. */
export const lastSequenceOfRow = (n: string): string => `(${n} + 1) * ${STRIDE} - 1`;

/** The highest number of a row whose changes have sequences that are bigints. */
export const MAX_ROW = (2n ** 63n - 1n) / BigInt(STRIDE) - 1n;

/** Sequences from here on are set by hand: a billion rows before there are none left. */
export const END_OF_NUMBERS = (MAX_ROW - 10n ** 9n) * BigInt(STRIDE);

/** SQL: the sequence of the row that was written with a change. */
export const writtenRowSql = (sequence: string): string => `${sequence} - ${sequence} % ${STRIDE}`;

/** The same in TypeScript, where a sequence is a string of digits. */
export const writtenRow = (sequence: string): string =>
  sequence.slice(0, -STRIDE_DIGITS) + '0'.repeat(STRIDE_DIGITS);

/** The sequence of change number `n` of a packed row. */
export const changeOfRow = (row: string, n: number): string =>
  row.slice(0, -STRIDE_DIGITS) + String(n).padStart(STRIDE_DIGITS, '0');

/** Which change of a packed row has this sequence; 0 for a single row. */
export const numberInRow = (sequence: string): number => Number(sequence.slice(-STRIDE_DIGITS));

/** How the keys of marked rows end. */
const MARK = ' ';
const FAILED_CONDITION_MARK = `${MARK}${MARK}`;
const marked = (key: string, { failed }: RowSource): string => {
  const mark = failed
    ? `CASE WHEN ${failed} THEN '${FAILED_CONDITION_MARK}' ELSE '${MARK}' END`
    : `'${MARK}'`;
  return `coalesce(${key}, 'null') || ${mark}`;
};

/** Whether a condition has failed for the statement that logged the row with this key. */
export const hasFailedCondition = (key: string | null): boolean =>
  key !== null && key.endsWith(FAILED_CONDITION_MARK);

/** SQL: whether the functions of version 1 did not log the row; it has nothing that a search_path could mislead. */
export const isMarked = (key: string): string =>
  `coalesce(pg_catalog.right(${key}, 1), '') OPERATOR(pg_catalog.=) '${MARK}'`;

/** The digits of a time in microseconds since 1970. With the four digits or more of a number they are longer than any bigint. */
const STAMP_DIGITS = 16;
const MAX_NUMBER_DIGITS = String(2n ** 63n).length;

/** What the public sequence of a change has after its number, if the change was written at this time, ISO 8601. */
export function stampOf(at: string): string {
  const second = at.slice(0, 19);
  // Changes that follow each other are often of one second, and to parse a date takes longer than all the rest.
  if (second !== lastSecond.text)
    lastSecond = { text: second, digits: String(Date.parse(`${second}Z`) / 1000) };
  return (lastSecond.digits + at.slice(20, -1).padEnd(6, '0')).padStart(STAMP_DIGITS, '0');
}
let lastSecond = { text: '', digits: '' };

/** A public sequence, taken apart: the change's number in the log, and when the change was written; null for one that version 1 logged. */
export interface NamedChange {
  readonly seq: string;
  /** ISO 8601. */
  readonly at: string | null;
}

/**
 * The sequence of a row that a backfill reads: the digits of the backfill's number, and those of what tells the row from the backfill's other
 * rows. It is longer than any sequence of a change. No log has it.
 */
export const BACKFILL_DIGITS = 19;
export const ROW_DIGITS = 29;
export const isReadSequence = (sequence: string): boolean => sequence.length === BACKFILL_DIGITS + ROW_DIGITS;

/** Numbers from here on stand for rows that a backfill has read, in tables that have a number for every change. No log gets so far. */
export const READ_NUMBERS = 2n ** 62n;
/** A prime, so that the backfill's digits and the row's digits both count. */
const READ_NUMBERS_COUNT = 2n ** 61n - 1n;

/** The number of the change that has this sequence without a stamp. */
export const numberOf = (sequence: string): string =>
  isReadSequence(sequence) ? String(READ_NUMBERS + (BigInt(sequence) % READ_NUMBERS_COUNT)) : sequence;

/** Null if it is no public sequence. */
export function parseSequence(sequence: unknown): NamedChange | null {
  if (typeof sequence !== 'string' || !/^[1-9]\d*$/.test(sequence)) return null;
  if (isReadSequence(sequence)) return { seq: sequence, at: null };
  const stamp = sequence.length > MAX_NUMBER_DIGITS ? sequence.slice(-STAMP_DIGITS) : '';
  const seq = sequence.slice(0, sequence.length - stamp.length);
  if (BigInt(seq) >= 2n ** 63n) return null;
  if (stamp === '') return { seq, at: null };
  const at = new Date(Number(stamp.slice(0, -3)));
  return { seq, at: at.toISOString().replace('Z', `${stamp.slice(-3)}Z`) };
}

/** SQL: whether this row of the log, `row`, is packed, and single rows share its numbers. */
export const sharesNumbers = (log: ObjectName, row: string): string =>
  `(${row}.size IS NOT NULL AND EXISTS (SELECT FROM ${log.sql} single WHERE single.seq > ${row}.seq AND single.seq < ${row}.seq + ${STRIDE}))`;

/** SQL: how many changes a row holds. */
export const CHANGES = 'coalesce(size, 1)';

// Writing: the trigger functions do, in SQL alone.

interface RowSource {
  readonly at: string;
  readonly tbl: string;
  /** Whether a condition has failed for the statement; null where the table has none. */
  readonly failed?: string | null;
}

/** A column of the log that only some tables' changes have, and its value as SQL over a change `c`. */
export interface DataColumn {
  readonly name: 'before' | 'after' | 'shape';
  readonly sql: string;
}

const listed = (data: readonly DataColumn[], one: (column: DataColumn) => string): string =>
  data.map((column) => `, ${one(column)}`).join('');

/** SQL: the beginning of an INSERT of single rows, each of these expressions. */
export const insertSingle = (
  log: ObjectName,
  source: RowSource & { readonly id: string; readonly op: string; readonly key: string },
  data: readonly DataColumn[] = [],
): string => `INSERT INTO ${log.sql} (at, tbl, id, op, key${listed(data, ({ name }) => name)})
      SELECT ${source.at}, ${source.tbl}, ${source.id}, ${source.op}, ${marked(source.key, source)}${listed(data, ({ sql }) => sql)}`;

/** About so many bytes of data are in a packed row: the changes of a row are read together. */
const PACK_BYTES = 65_536;

export interface Packing {
  /** SQL: whether a change has a row of its own. */
  readonly isLong: string;
  /** SQL: sorts operations. */
  readonly order: string;
}

/**
 * SQL: an INSERT of packed rows. `changes` is a query of id, op, key, and of the columns that `data` names. A change for which `isLong` is
 * true has a single row: strings end at a gigabyte. So has one that is left alone.
 */
export const insertPacked = (
  log: ObjectName,
  source: RowSource,
  changes: string,
  { isLong, order }: Packing,
  data: readonly DataColumn[] = [],
): string => {
  const keys = `string_agg(c.key, ',') FILTER (WHERE c.shared IS NULL)`;
  const sides = data.filter(({ name }) => name !== 'shape');
  const bytes = sides.map(({ name }) => `coalesce(octet_length(c.${name}), 0)`).join(' + ');
  // All changes of a row have one shape, and each of the sides or none.
  const [packs, parts, all] =
    data.length === 0
      ? ['row_number() OVER ()', '', `SELECT c.*, (row_number() OVER () - 1) / ${PACK} AS pack`]
      : [
          'row_number() OVER w',
          `, c.part, c.shape${sides.length > 1 ? `, c.${sides[0]!.name} IS NULL, c.${sides[1]!.name} IS NULL` : ''}`,
          `SELECT c.*, (row_number() OVER w - 1) / ${PACK} AS pack, sum(${bytes}) OVER w / ${PACK_BYTES} AS part`,
        ];
  const long = data.length === 0 ? isLong : `${isLong} OR ${bytes} >= ${PACK_BYTES}`;
  return `INSERT INTO ${log.sql} (at, tbl, id, op, key, size${listed(data, ({ name }) => name)})
      SELECT ${source.at}, ${source.tbl},
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        ${marked(`coalesce(c.shared, CASE count(*) WHEN 1 THEN ${keys} ELSE '[' || ${keys} || ']' END)`, source)},
        nullif(count(*), 1)${listed(data, ({ name }) => (name === 'shape' ? 'c.shape' : `string_agg(c.${name}, '')`))}
      FROM (
        ${all},
          CASE WHEN left(c.key, 1) = '"' THEN c.key END AS shared,
          CASE WHEN ${long} THEN ${packs} END AS long
        FROM (${data.length === 0 ? changes : `SELECT c.id, c.op, c.key${listed(data, ({ name, sql }) => `${sql} AS ${name}`)} FROM (${changes}) c`}) c${data.length === 0 ? '' : ' WINDOW w AS (ROWS UNBOUNDED PRECEDING)'}
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long${parts}
      ORDER BY ${order}, c.pack${data.length === 0 ? '' : ', c.part'}`;
};

// Unpacking, in SQL: what is not acknowledged is put back; and in TypeScript: what is read becomes changes.

/** The columns of a single row, with those that an INSERT fills in by default. */
export const SINGLE_COLUMNS = 'seq, xid, at, tbl, id, op, key, before, after, shape, origin, context';

/** A regular expression for the text of one composite value. A quote within a quoted field is doubled, so that quotes come in pairs. */
const COMPOSITE = quoteLiteral(String.raw`\((?:[^"()]|"[^"]*")*\)`);

/** The types of these columns, for a table that keeps single rows. */
export const SINGLE_ROW = `
  seq bigint NOT NULL,
  xid xid8 NOT NULL,
  at timestamptz NOT NULL,
  tbl text NOT NULL,
  id text NOT NULL,
  op text NOT NULL,
  key text,
  before text,
  after text,
  shape text,
  origin text,
  context text`;

/** The number under which a change is in the log when it has been redriven. */
export const redriven = (seq: string): string => `-${seq}`;
export const redrivenSql = (seq: string): string => `-(${seq})`;

/** The number that a change was written under. */
export const original = (seq: string): string => (seq.startsWith('-') ? seq.slice(1) : seq);

/** The public sequence of a change. That of a row that a backfill has read is its sequence; the stamp of a redriven one is all of it. */
export const publicSequence = (seq: string, stamp: string): string =>
  isReadSequence(seq) ? seq : stamp.length > STAMP_DIGITS ? stamp : original(seq) + stamp;

/** The operation of a row that a backfill has read. Its origin is its sequence, since no writer can have said one. */
export const READ = 'READ';

/** SQL: what the public sequences of a row's changes have after their numbers. */
export const STAMP = `CASE WHEN ${isMarked('key')}
    THEN lpad(trunc(extract(epoch FROM at) * 1000000)::bigint::text, ${STAMP_DIGITS}, '0') ELSE '' END`;

/** SQL: the public sequence of a single row. */
export const PUBLIC_SEQUENCE = `CASE WHEN op = '${READ}' AND origin IS NOT NULL THEN origin
  ELSE seq::text || ${STAMP} END`;

/** SQL: single rows, one for each change of the packed ones among `rows`, of which `condition` holds. */
export const unpacked = (rows: string, condition = 'true'): string => `
  SELECT packed.seq + change.n AS seq, packed.xid, packed.at, packed.tbl, change.id, packed.op,
    coalesce(change.key::text || CASE WHEN ${isMarked('packed.key')} THEN '${MARK}' ELSE '' END, packed.key) AS key,
    change.before[1] AS before, change.after[1] AS after, packed.shape, packed.origin, packed.context
  FROM (SELECT ${IN_PLACE_OF_ADDED}) absent,
  LATERAL (SELECT ${SINGLE_COLUMNS}, size FROM ${rows}) packed, ROWS FROM (
    json_array_elements_text(packed.id::json),
    json_array_elements(CASE WHEN packed.key LIKE '[%' THEN packed.key ELSE '[]' END::json),
    regexp_matches(packed.before, ${COMPOSITE}, 'g'),
    regexp_matches(packed.after, ${COMPOSITE}, 'g')
  ) WITH ORDINALITY change (id, key, before, after, n)
  WHERE packed.size IS NOT NULL AND ${condition}`;

/** SQL: the same single rows under numbers after all that single rows of the log have in the places of their packed row. */
export const unpackedAfterOthers = (log: ObjectName, rows: string): string => `
  SELECT ${SINGLE_COLUMNS.replace('seq', `seq + ${PACK} * (taken / ${PACK} + 1) AS seq`)}
  FROM (${unpacked(rows)}) change, LATERAL (
    SELECT max(single.seq) % ${STRIDE} - 1 AS taken FROM ${log.sql} single
    WHERE single.seq > ${writtenRowSql('change.seq')} AND single.seq < ${writtenRowSql('change.seq')} + ${STRIDE}
  ) others`;

/** SQL: an INSERT of single rows into the log, which names no column: the log may be without those that version 4 has added. */
export const insertRows = (log: ObjectName, rows: string): string => `INSERT INTO ${log.sql}
  SELECT restored.* FROM (${rows}) change, jsonb_populate_record(NULL::${log.sql}, to_jsonb(change)) restored`;

const allBut = (rows: string, except: string): string =>
  unpacked(rows, `packed.seq + change.n NOT IN (SELECT unnest(${except}))`);

/** SQL: an INSERT of what `unpacked` yields, except the changes whose sequences are in the array `except`. */
export const putBack = (log: ObjectName, rows: string, except: string): string =>
  `${insertRows(log, allBut(rows, except))}
  RETURNING seq`;

/** The same at a fourth of the cost, for a log that has the columns of version 4. */
export const putBackFast = (log: ObjectName, rows: string, except: string): string =>
  `INSERT INTO ${log.sql} (${SINGLE_COLUMNS})${allBut(rows, except)}
  RETURNING seq`;

/** A row as `READ_COLUMNS` brings it. */
export type LogRow = [
  seq: string,
  at: string,
  tbl: string,
  id: string,
  op: string,
  key: string | null,
  size: number | null,
  xid: string,
  details: string | null,
];

export const READ_COLUMNS = ['seq', 'at', 'tbl', 'id', 'op', 'key', 'size', 'xid', 'details'] as const;

/** SQL: whether a row has anything in the columns that version 4 has added. */
export const HAS_DETAILS = 'coalesce(shape, origin, context) IS NOT NULL';

/** SQL: the column `details` of {@link READ_COLUMNS}, a JSON array of the columns that version 4 has added. */
export const detailsOf = (row: string): string =>
  `json_build_array(${ADDED_COLUMNS.map((column) => told(`${row}.${column}`, MAX_TAGS.get(column))).join(', ')})::text`;

/**
 * How many bytes of a tag are read. A tag that SQL has set may have a gigabyte, which no string in JavaScript can hold, and each change of its transaction
 * has it: a longer one is left out.
 */
export const MAX_TAGS: ReadonlyMap<string, number> = new Map([
  ['origin', 8192],
  ['context', 65_536],
]);
const told = (column: string, max?: number): string =>
  max === undefined ? column : `CASE WHEN octet_length(${column}) <= ${max} THEN ${column} END`;

/** What most rows of the log do not have, as their columns hold it. */
export interface Details {
  readonly before: string | null;
  readonly after: string | null;
  readonly shape: string | null;
  readonly origin: string | null;
  readonly context: string | null;
}

function parseDetails(json: string): Details {
  const [before, after, shape, origin, context] = JSON.parse(json) as (string | null)[];
  return { before: before!, after: after!, shape: shape!, origin: origin!, context: context! };
}

/** The texts of composite values, of which these follow each other. A quote within a quoted field is doubled, so that quotes come in pairs. */
const cut = (composites: string): string[] => composites.match(/\([^")]*(?:"[^"]*"[^")]*)*\)/g) ?? [];

/** A parsed key: a string is the name of the column that the id was taken from. */
export type Key = string | Record<string, string> | null;

/** Makes what the reader wants of a change, from the columns of a single row. */
export type MakeChange<Made> = (
  seq: string,
  /** ISO 8601. */
  at: string,
  tbl: string,
  id: string,
  op: string,
  key: Key,
  xid: string,
  /** What the change's public sequence has after its number. */
  stamp: string,
  details: Details | null,
) => Made;

/** An id of so few characters, with its punctuation, is a string of its own for V8 when it is cut from a text. A longer one would keep the text alive. */
const SHORT = 15;

/** The ids of a packed row. Most are short and have nothing escaped, and then to cut the text takes a fourth of the time that JSON.parse takes. */
function idsOf(json: string, size: number): string[] {
  const isPlain = json.length < SHORT * size && !json.includes('\\');
  const ids = isPlain ? json.slice(2, -2).split('","') : [];
  // There may be space between them.
  return ids.length === size ? ids : (JSON.parse(json) as string[]);
}

/** Reads the changes in rows of either form. */
export class Unpacker<Made> {
  readonly #make: MakeChange<Made>;
  /** Most tables have a key of one column, whose name need not be parsed for every row. */
  readonly #columns = new Map<string, Key>();
  // What was read last. Rows of one statement follow each other, and their changes share these strings.
  #xid = '';
  #printed = '';
  #isMarked = false;
  #at = '';
  #stamp = '';

  constructor(make: MakeChange<Made>) {
    this.#make = make;
  }

  unpack(
    [seq, printed, tbl, id, op, key, size, read, said]: readonly [...LogRow, ...unknown[]],
    into: Made[],
  ): void {
    const details = said === null ? null : parseDetails(said);
    if (read !== this.#xid) this.#xid = read;
    const isMarked = key !== null && key.endsWith(MARK);
    if (printed !== this.#printed || isMarked !== this.#isMarked) {
      this.#printed = printed;
      this.#isMarked = isMarked;
      this.#at = isoOf(printed);
      this.#stamp = isMarked ? stampOf(this.#at) : '';
    }
    const xid = this.#xid;
    const at = this.#at;
    const stamp = this.#stamp;
    if (size === null) {
      into.push(this.#make(seq, at, tbl, id, op, this.#parseKey(key), xid, stamp, details));
      return;
    }
    const first = BigInt(seq) + 1n;
    const ids = idsOf(id, size);
    const keys = key?.startsWith('[') ? (JSON.parse(key) as Key[]) : null;
    const shared = keys ? null : this.#parseKey(key);
    const befores = details?.before ? cut(details.before) : null;
    const afters = details?.after ? cut(details.after) : null;
    for (const [n, each] of ids.entries()) {
      const own = details && {
        before: befores?.[n] ?? null,
        after: afters?.[n] ?? null,
        shape: details.shape,
        origin: details.origin,
        context: details.context,
      };
      into.push(
        this.#make(String(first + BigInt(n)), at, tbl, each, op, keys ? keys[n]! : shared, xid, stamp, own),
      );
    }
  }

  #parseKey(json: string | null): Key {
    if (json === null) return null;
    if (!json.startsWith('"')) return JSON.parse(json) as Key;
    let column = this.#columns.get(json);
    if (column === undefined) this.#columns.set(json, (column = JSON.parse(json) as Key));
    return column;
  }
}
