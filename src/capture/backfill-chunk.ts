/** Reads one chunk of a table: the next rows, as a snapshot sees them, and that snapshot. */
import { hash } from 'node:crypto';
import type { Session } from '../postgres/session.ts';
import { isPrivilegeError } from '../postgres/sqlstates.ts';
import { BACKFILL_DIGITS, type Details, type Key, ROW_DIGITS } from '../schema/log-layout.ts';
import { locationOf } from '../schema/names.ts';
import type { Job } from './backfill-store.ts';
import {
  BackfillTable,
  type ChunkRow,
  type RowSettings,
  beginChunk,
  beginningOf,
  unreadable,
} from './backfill-table.ts';
import { Change } from './change.ts';
import type { RowShape } from './row-shapes.ts';

export interface ChunkReaderOptions {
  readonly rowSettings: RowSettings;
  /** Connects a session for the chunks, whose statements have so many milliseconds. */
  readonly openSession: (statementTimeout: number) => Promise<Session>;
  /** Called when the table has to be read from its beginning, since its key is another one than before. Sets the job back. */
  readonly restart: (job: Job, keyColumns: string) => Promise<void>;
}

export interface Read {
  readonly snapshot: string;
  readonly changes: Change[];
  /** The last row's place; null if there was no row before it either. */
  readonly cursor: string[] | null;
  /** How many rows the chunk has, whether or not the condition holds. */
  readonly scanned: number;
  /** Whether no row follows. */
  readonly last: boolean;
  /** How long the statement took that read the rows, in milliseconds. What else a chunk needs does not depend on its size. */
  readonly time: number;
}

/**
 * For a chunk's statement, in milliseconds. All statements of the session have the same limit: to set another one fails in a transaction that has
 * failed.
 */
const CHUNK_TIMEOUT = 60_000;

const GONE = 'the table is gone';

/** The statement that keeps a table, $1, from being rewritten or dropped. */
const lockOf = {
  name: 'backfill_lock',
  text: `
SELECT format('LOCK TABLE %s%I.%I IN ACCESS SHARE MODE', CASE t.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname) AS lock, n.nspname AS schema,
  t.relname AS name
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE t.oid = $1::oid AND t.relkind IN ('r', 'p')`,
};

interface Named {
  readonly lock: string;
  readonly schema: string;
  readonly name: string;
}

/** The transactions of the chunks have a session of their own, since a chunk takes longer than the control session may be without an answer. */
export class ChunkReader {
  readonly #options: ChunkReaderOptions;
  #session: Session | null = null;

  constructor(options: ChunkReaderOptions) {
    this.#options = options;
  }

  get isLost(): boolean {
    return this.#session?.isLost ?? false;
  }

  /**
   * Reads at most `limit` rows after those that the job has read; 0: one row, without its data. Leaves the events in `skipped` out.
   *
   * The table is locked before the snapshot is taken: a table that is rewritten in between, as by ALTER TABLE, would look empty.
   */
  async read(job: Job, limit: number, skipped: ReadonlySet<string>): Promise<Read> {
    const session = (this.#session ??= await this.#options.openSession(CHUNK_TIMEOUT));
    const [named] = await session.query<Named>(lockOf, [job.relation]);
    if (!named) throw new Error(GONE);
    const begin = beginChunk(job.condition === null ? null : named.schema);
    return session.transaction(begin, async () => {
      await session.query(named.lock).catch((error: unknown) => {
        throw isPrivilegeError(error) ? unreadable(named.schema, named.name) : error;
      });
      const table = await BackfillTable.find(session, job.relation, this.#options.rowSettings);
      if (!table) throw new Error(GONE);
      if (job.keyColumns !== table.keyColumns) await this.#options.restart(job, table.keyColumns);
      const [{ snapshot }] = (await session.query<{ snapshot: string }>(
        'SELECT pg_current_snapshot()::text AS snapshot',
      )) as [{ snapshot: string }];
      return { snapshot, ...(await readRows(session, job, table, limit, skipped)) };
    });
  }

  /** Closes the session. The next chunk gets another one. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.close();
  }
}

async function readRows(
  session: Session,
  job: Job,
  table: BackfillTable,
  limit: number,
  skipped: ReadonlySet<string>,
): Promise<Omit<Read, 'snapshot'>> {
  const isReadable = limit > 0;
  const wanted = Math.max(limit, 1);
  const { text, values } = table.chunk(job.after, wanted, job.condition, isReadable);
  const changes: Change[] = [];
  // The table may have been renamed since it was asked for.
  const generation = digestOf(table.keyColumns);
  const location = locationOf(table.schema, table.name);
  const shape = table.shape && JSON.stringify(table.shape);
  const at = new Date().toISOString().replace('Z', '000Z');
  let cursor: string[] | null = null;
  let scanned = 0;
  const began = performance.now();
  await session.eachRow<ChunkRow>({ name: '', text }, values, ([place, id, key, after]) => {
    scanned++;
    cursor = place;
    if (id === null) return;
    const sequence = sequenceOf(job, generation, place);
    if (!skipped.has(sequence))
      changes.push(changeOf(sequence, location, id, key, at, after, shape, table.shape));
  });
  const time = performance.now() - began;
  if (scanned < wanted && table.isByPlace) {
    const [{ blocks }] = (await session.query<{ blocks: string }>(
      table.blocks.text,
      table.blocks.values,
    )) as [{ blocks: string }];
    const end = table.endOf(job.after, wanted);
    // A chunk may have ended before, since its rows are large.
    const isWhole = await isRangeRead(session, table, cursor, job, wanted);
    if (isWhole) return { changes, cursor: beginningOf(end), scanned, time, last: end >= Number(blocks) };
    return { changes, cursor, scanned, time, last: false };
  }
  return { changes, cursor: cursor ?? job.after, scanned, time, last: scanned === 0 };
}

/** Whether no row follows `cursor` in the range of blocks. */
async function isRangeRead(
  session: Session,
  table: BackfillTable,
  cursor: string[] | null,
  { after }: Job,
  limit: number,
): Promise<boolean> {
  if (cursor === null) return true;
  const { text, values } = table.chunk(cursor, limit, 'false', false);
  let isRead = true;
  const end = table.endOf(after, limit);
  await session.eachRow<ChunkRow>({ name: '', text }, values, ([[place]]) => {
    if (Number(/^\((\d+),/.exec(place!)![1]) < end) isRead = false;
  });
  return isRead;
}

/** A row that is read again from the table's beginning, since its place means something else now, has another sequence. */
function sequenceOf({ backfill, relation }: Job, generation: string, place: readonly string[]): string {
  const digest = digestOf(JSON.stringify([relation, generation, place]));
  return backfill.padStart(BACKFILL_DIGITS, '0') + String(BigInt(`0x${digest}`)).padStart(ROW_DIGITS, '0');
}

const digestOf = (text: string): string => hash('sha256', text).slice(0, 24);

function changeOf(
  sequence: string,
  location: string,
  id: string,
  key: string | null,
  at: string,
  after: string | null,
  shapeJson: string | null,
  shape: RowShape | null,
): Change {
  const omitted =
    shape && (after === 'too-large' ? after : after === null || after === 'unreadable' ? 'unreadable' : null);
  const details: Details | null = shape && {
    before: null,
    after: omitted ? null : after,
    shape: omitted ?? shapeJson,
    origin: null,
    context: null,
  };
  const parsed = key === null ? null : (JSON.parse(key) as Key);
  const change = new Change(sequence, location, 'read', id, parsed, at, null, '', details);
  change.shape = omitted ?? shape;
  return change;
}
