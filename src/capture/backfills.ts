/**
 * Reads the rows that tables hold already, and brings them as `read` events, each between the changes of the row that came before and those
 * that come after.
 *
 *   waiting -> running -> done              paused: from either, and back to waiting
 *      +----------+---------> cancelled     also a table that is gone or can't be read: `error` says why
 *
 * Rows are read in chunks. Log and tables share one snapshot, which puts a chunk in its place among the changes:
 *
 *   1. A pass over the log is complete. The reader is awake, so that no change comes by a notification.
 *   2. A REPEATABLE READ transaction in a session of its own takes snapshot S and reads the next rows in the order of their keys.
 *   3. The next pass over the log ends at S: it reads what S sees and the pass before did not see.
 *   4. The chunk's events go to the sink behind that pass. The pass after it begins where S ends.
 *
 * - A `read` event is never older than a change of its row that came before: S sees all these changes, and the row is as S sees it.
 * - It is never newer than a change that comes after: S does not see any of them. That includes a transaction that was open when S was taken.
 * - A row whose key changes between two chunks may be read twice, or not at all. Its new key then comes as a `create`.
 * - Nothing of the application's is locked but by the weakest lock, nothing is written to its tables, and no transaction is longer than a chunk.
 *
 * Progress is kept in the table of backfills: the last key of the last chunk of which, and of all chunks before it, every event is
 * acknowledged. A term begins there, so that after the death of a node at most the events of chunks in hand come again, under the same
 * sequences: a sequence is made of the backfill's number and the row's key. A term that ends well keeps what was acknowledged of them.
 *
 * An event that is acknowledged in a caller's transaction is a row which that transaction inserts into the same table. The row's
 * primary key makes a second acknowledgement fail. A chunk is over only when these rows are committed; then they are deleted. A chunk that is
 * read again leaves out the events that have such rows.
 *
 * Live changes come first: a chunk is read only when the last pass has found less than a page and the sink has room for a page. A
 * chunk has as many rows as about 100 ms can read.
 *
 * models/backfill.pml checks chunks, progress and takeovers exhaustively.
 */
import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Session } from '../postgres/session.ts';
import { TRANSIENT, isConnectionError } from '../postgres/sqlstates.ts';
import { BACKFILL_DIGITS, type Details, type Key, ROW_DIGITS } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type Hold, type ReadAcknowledgements, leaseLost } from './acknowledgements.ts';
import { type BackfillSql, backfillSql } from './backfill-sql.ts';
import { BackfillTable, type RowSettings, type ChunkRow, beginChunk, beginningOf } from './backfill-table.ts';
import { Change } from './change.ts';
import type { RowShape } from './row-shapes.ts';
import type { Sink } from './sink.ts';

export interface BackfillsOptions {
  readonly session: Session;
  readonly names: Names;
  readonly sink: Sink;
  readonly hold: Hold;
  readonly rowSettings: RowSettings;
  /** Connects a session for the chunks. */
  readonly openSession: () => Promise<Session>;
  /** Called when a chunk can be read that could not be read a moment ago. */
  readonly rouse: () => void;
  /** Called when progress could not be kept although the lease is held. */
  readonly fail: (error: unknown) => void;
}

/** How long a chunk is to take, in milliseconds. */
const CHUNK_TIME = 100;
const FIRST_CHUNK = 100;
const MAX_CHUNK = 2000;
/** For a chunk's statement, in milliseconds. */
const CHUNK_TIMEOUT = 60_000;
/** How many events may be out that are not acknowledged, or whose chunk is not. */
const MAX_OUT = 10_000;
/** Between two looks whether callers' transactions have been committed, and before a chunk is tried again, in milliseconds. */
const LOOK = 100;
const RETRY = 1000;

interface Job {
  readonly backfill: string;
  readonly relation: string;
  readonly location: string;
  readonly condition: string | null;
  readonly chunk: number | null;
  keyColumns: string | null;
  /** The last key that was read; null for none. */
  after: string[] | null;
  state: 'waiting' | 'running' | 'paused';
}

/** A table that is being read in this term. */
interface Reading {
  readonly job: Job;
  /** Rows at once. */
  limit: number;
  /** Whether the last row was read. */
  isRead: boolean;
  /** What is left out when it is read again: what was acknowledged, or is out. */
  readonly skipped: Set<string>;
  /** Those that are not over, the oldest first. */
  readonly chunks: Chunk[];
}

interface Chunk {
  readonly reading: Reading;
  /** The key before its first row; null for none. */
  readonly from: readonly string[] | null;
  /** The key up to which the table is done when this chunk and those before are over. */
  cursor: readonly string[] | null;
  /** Whether the table ends with it. */
  last: boolean;
  rows: number;
  /** By their sequences, the events that nobody has acknowledged. */
  readonly open: Map<string, Change>;
  readonly acknowledged: string[];
  /** The events that callers have acknowledged; their transactions are committed. */
  byCallers: string[];
  /** Whether what callers have acknowledged is kept, since the chunk is read again. */
  isRewound: boolean;
}

export class Backfills implements ReadAcknowledgements {
  readonly #options: BackfillsOptions;
  readonly #sql: BackfillSql;
  #jobs: Job[] = [];
  readonly #readings = new Map<string, Reading>();
  /** The chunk of each event that is not acknowledged. */
  readonly #out = new Map<string, Chunk>();
  /** How many events are in chunks that are not over. */
  #outstanding = 0;
  #isStale = true;
  #session: Session | null = null;
  #retryAt = 0;
  #isFinishing: Promise<void> | null = null;
  #callersLook: NodeJS.Timeout | null = null;
  #isOver = false;

  constructor(options: BackfillsOptions) {
    this.#options = options;
    this.#sql = backfillSql(options.names);
  }

  /** Whether a chunk may be there to read, so that the reader stays awake. */
  get isReady(): boolean {
    return !this.#isOver && (this.#isStale || this.#next !== null);
  }

  /** To be called when somebody has asked for a backfill, or paused, resumed or cancelled one. */
  onChanged(): void {
    this.#isStale = true;
    this.#options.rouse();
  }

  get #next(): Job | null {
    const isWaiting = this.#outstanding >= MAX_OUT || performance.now() < this.#retryAt;
    if (isWaiting || this.#options.sink.dropped?.any) return null;
    return (
      this.#jobs.find((job) => job.state !== 'paused' && !this.#readings.get(keyOf(job))?.isRead) ?? null
    );
  }

  /**
   * Reads a chunk, if there is one to read, after a complete pass. `passUpTo` makes a pass that ends at a snapshot. Returns whether there
   * was one.
   */
  async step(passUpTo: (snapshot: string) => Promise<void>, signal: AbortSignal): Promise<boolean> {
    if (this.#isStale) await this.#load();
    const job = this.#next;
    if (!job || signal.aborted) return false;
    const reading = this.#readings.get(keyOf(job)) ?? (await this.#begin(job));
    const began = performance.now();
    let read: Read;
    try {
      read = await this.#read(reading);
    } catch (error) {
      await this.#fail(reading, error);
      return true;
    }
    adapt(reading, performance.now() - began, read.scanned);
    await passUpTo(read.snapshot);
    if (!signal.aborted) this.#push(reading, read);
    return true;
  }

  async #load(): Promise<void> {
    this.#isStale = false;
    const { session } = this.#options;
    // Nobody can have asked for one where the table is missing, and a role without rights on it has no part in backfills.
    const [may] = await session.query<{ take: boolean | null }>(this.#sql.mayTakePart);
    if (!may?.take) return;
    const jobs = await session.query<Job>(this.#sql.load);
    this.#jobs = jobs;
    const present = new Set(jobs.map(keyOf));
    // One that is cancelled goes on with what is out, and reads no more.
    for (const [key, reading] of this.#readings) if (!present.has(key)) reading.isRead = true;
    if (jobs.length === 0) await this.#closeSession();
  }

  async #begin(job: Job): Promise<Reading> {
    const rows = await this.#options.session.query<{ sequence: string }>(this.#sql.acknowledged, [
      job.backfill,
    ]);
    const reading: Reading = {
      job,
      limit: Math.min(job.chunk ?? FIRST_CHUNK, FIRST_CHUNK),
      isRead: false,
      skipped: new Set(rows.map(({ sequence }) => sequence)),
      chunks: [],
    };
    this.#readings.set(keyOf(job), reading);
    return reading;
  }

  /**
   * Reads the next rows. The table is locked before the snapshot is taken: a table that is rewritten in between, as by ALTER TABLE, would
   * look empty.
   */
  async #read(reading: Reading): Promise<Read> {
    const { job } = reading;
    const session = (this.#session ??= await this.#options.openSession());
    const [named] = await session.query<{ lock: string; schema: string }>(lockOf, [job.relation]);
    if (!named) throw new Error(GONE);
    const begin = beginChunk(job.condition === null ? null : named.schema);
    return session.transaction(
      begin,
      async () => {
        await session.query(named.lock);
        const table = await BackfillTable.find(session, job.relation, this.#options.rowSettings);
        if (!table) throw new Error(GONE);
        if (job.keyColumns !== table.keyColumns) {
          if (reading.chunks.length > 0) await this.#finishAll();
          job.keyColumns = table.keyColumns;
          job.after = null;
          await this.#write(this.#sql.begin, job, [job.keyColumns, null]);
          job.state = 'running';
        }
        const [{ snapshot }] = (await session.query<{ snapshot: string }>(
          'SELECT pg_current_snapshot()::text AS snapshot',
        )) as [{ snapshot: string }];
        return { snapshot, ...(await this.#readRows(session, reading, table)) };
      },
      CHUNK_TIMEOUT,
    );
  }

  async #readRows(
    session: Session,
    { job, limit, skipped }: Reading,
    table: BackfillTable,
  ): Promise<Omit<Read, 'snapshot'>> {
    const isReadable = limit > 0;
    const wanted = Math.max(limit, 1);
    const { text, values } = table.chunk(job.after, wanted, job.condition, isReadable);
    const changes: Change[] = [];
    const shape = table.shape && JSON.stringify(table.shape);
    const at = new Date().toISOString().replace('Z', '000Z');
    let cursor: string[] | null = null;
    let scanned = 0;
    await session.eachRow<ChunkRow>(
      { name: '', text },
      values,
      ([place, id, key, after]) => {
        scanned++;
        cursor = place;
        if (id === null) return;
        const sequence = sequenceOf(job, place);
        if (!skipped.has(sequence))
          changes.push(changeOf(sequence, job.location, id, key, at, after, shape, table.shape));
      },
      CHUNK_TIMEOUT,
    );
    if (scanned < wanted && table.isByPlace) {
      const [{ blocks }] = (await session.query<{ blocks: string }>(
        table.blocks.text,
        table.blocks.values,
      )) as [{ blocks: string }];
      const end = table.endOf(job.after, wanted);
      // A chunk may have ended before, since its rows are large.
      const isWhole = await this.#isRangeRead(session, table, cursor, job, wanted);
      if (isWhole) return { changes, cursor: beginningOf(end), scanned, last: end >= Number(blocks) };
      return { changes, cursor, scanned, last: false };
    }
    const last = scanned === 0;
    return { changes, cursor: cursor ?? job.after, scanned, last };
  }

  /** Whether no row follows `cursor` in the range of blocks. */
  async #isRangeRead(
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
    await session.eachRow<ChunkRow>(
      { name: '', text },
      values,
      ([[place]]) => {
        if (Number(/^\((\d+),/.exec(place!)![1]) < end) isRead = false;
      },
      CHUNK_TIMEOUT,
    );
    return isRead;
  }

  #push(reading: Reading, { changes, cursor, last }: Read): void {
    const { job, chunks } = reading;
    const from = job.after;
    job.after = cursor && [...cursor];
    reading.isRead ||= last;
    const open = new Map(changes.map((change) => [change.sequence!, change]));
    const chunk: Chunk = {
      reading,
      from,
      cursor,
      last,
      rows: changes.length,
      open,
      acknowledged: [],
      byCallers: [],
      isRewound: false,
    };
    for (const sequence of open.keys()) this.#out.set(sequence, chunk);
    this.#outstanding += chunk.rows;
    chunks.push(chunk);
    this.#options.sink.push(changes);
    if (changes.length === 0) this.#finishSoon();
  }

  /** An error of the table ends its backfill; a chunk that failed for another reason is tried again. */
  async #fail(reading: Reading, error: unknown): Promise<void> {
    const { job } = reading;
    const { code = '' } = error as { code?: string };
    if (code === 'ERR_LEASE_LOST' || this.#options.session.isLost) throw error;
    if (this.#session?.isLost || isConnectionError(error)) {
      await this.#closeSession();
      return this.#retryLater();
    }
    // A chunk may be too much at once; a row alone that can't be printed comes without data.
    if (/^(22|53|54|57014)/.test(code) && reading.limit > 0) {
      reading.limit = Math.floor(reading.limit / 4);
      return;
    }
    if (TRANSIENT.test(code)) return this.#retryLater();
    reading.isRead = true;
    this.#forget(job);
    await this.#write(this.#sql.fail, job, [(error as Error).message]);
  }

  #retryLater(): void {
    this.#retryAt = performance.now() + RETRY;
    setTimeout(() => this.#options.rouse(), RETRY + 1).unref();
  }

  /** Whether an event is out in this term and not acknowledged. To be called before a caller's transaction acknowledges it. */
  noteCaller(sequence: string): boolean {
    if (!this.#out.has(sequence)) return false;
    this.#callersLook ??= setTimeout(() => void this.#lookForCallers(), LOOK).unref();
    return true;
  }

  /** The consumer is done with an event. An event that is not out was acknowledged before. @throws {PostgresInputError} ERR_LEASE_LOST */
  acknowledge(sequence: string): void {
    if (this.#options.hold.token === null) throw leaseLost();
    const chunk = this.#take(sequence);
    chunk?.acknowledged.push(sequence);
  }

  /** The same, where nobody waits. After the lease is lost, the event comes again. */
  acknowledgeSoon(sequence: string): void {
    if (this.#options.hold.token !== null) this.acknowledge(sequence);
  }

  /** Whether a caller's transaction has acknowledged an event and is committed. */
  async isGone(sequence: string): Promise<boolean> {
    await this.#noteCommitted();
    return !this.#out.has(sequence);
  }

  /**
   * The consumer had no room for an event of this term: it is read again, with all rows after it. Those that are out already are left out, and the
   * progress stays before it until then.
   */
  readAgain(sequence: string): void {
    const chunk = this.#out.get(sequence);
    if (!chunk) return;
    const { reading, from } = chunk;
    this.#out.delete(sequence);
    chunk.open.delete(sequence);
    chunk.rows--;
    this.#outstanding--;
    const { chunks, job } = reading;
    for (const later of chunks.slice(chunks.indexOf(chunk))) {
      for (const other of [...later.open.keys(), ...later.acknowledged, ...later.byCallers])
        reading.skipped.add(other);
      Object.assign(later, { cursor: from, last: false, isRewound: true });
    }
    reading.skipped.delete(sequence);
    reading.isRead = !this.#jobs.some((each) => keyOf(each) === keyOf(job));
    job.after = from && [...from];
    this.#finishSoon();
  }

  /** Takes an event out of the way. @throws {PostgresInputError} ERR_LEASE_LOST, ERR_INSTALL */
  async park(sequence: string, { error, attempts }: { error: string; attempts: number }): Promise<void> {
    const change = this.#out.get(sequence)?.open.get(sequence);
    if (!change) return;
    const { holder, token } = this.#options.hold;
    const { occurredAt, location, id, key, details } = change;
    const number = BigInt(sequence.slice(-ROW_DIGITS)) % PARKED_NUMBERS;
    const [held] = await this.#options.session.query(this.#sql.park, [
      String(number),
      holder,
      token,
      occurredAt,
      location,
      id,
      JSON.stringify(key),
      details?.after ?? null,
      details?.shape ?? null,
      attempts,
      error.replaceAll('\0', '\uFFFD'),
    ]);
    if (!held) throw leaseLost();
    this.acknowledge(sequence);
  }

  /** Keeps what is acknowledged: chunks that are over, and at the end of a term the events of others one by one. */
  async flush(): Promise<void> {
    if (this.#outstanding === 0 && !this.#isFinishing) return;
    await this.#noteCommitted();
    await this.#finishAll();
    const kept = [...this.#readings.values()].flatMap(({ chunks, job }) =>
      chunks.flatMap(({ acknowledged }) => acknowledged.map((sequence) => [job.backfill, sequence] as const)),
    );
    if (kept.length === 0) return;
    const { holder, token } = this.#options.hold;
    const values = [kept.map(([backfill]) => backfill), holder, token, kept.map(([, sequence]) => sequence)];
    const [held] = await this.#options.session.query(this.#sql.keep, values);
    if (!held) throw leaseLost();
  }

  /** The term is over: nothing is read any more. */
  async end(): Promise<void> {
    this.#isOver = true;
    if (this.#callersLook) clearTimeout(this.#callersLook);
    await this.#closeSession();
  }

  #take(sequence: string): Chunk | null {
    const chunk = this.#out.get(sequence);
    if (!chunk) return null;
    this.#out.delete(sequence);
    chunk.open.delete(sequence);
    if (chunk.open.size === 0) this.#finishSoon();
    return chunk;
  }

  #finishSoon(): void {
    setImmediate(() => {
      this.#finishAll().catch((error: unknown) => {
        if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') this.#options.fail(error);
      });
    });
  }

  /** Moves the progress of every table over the chunks that are over. */
  async #finishAll(): Promise<void> {
    while (this.#isFinishing) await this.#isFinishing;
    this.#isFinishing = this.#finish().finally(() => (this.#isFinishing = null));
    await this.#isFinishing;
  }

  async #finish(): Promise<void> {
    for (const [key, reading] of this.#readings) {
      const { chunks, job } = reading;
      let over = chunks.findIndex(({ open }) => open.size > 0);
      if (over === -1) over = chunks.length;
      if (over === 0) continue;
      const finished = chunks.slice(0, over);
      const rows = finished.reduce((sum, chunk) => sum + chunk.rows, 0);
      const { cursor, last } = finished.at(-1)!;
      const byCallers = finished.flatMap((chunk) => (chunk.isRewound ? [] : chunk.byCallers));
      await this.#write(this.#sql.finish, job, [cursor, rows, last, byCallers]);
      chunks.splice(0, over);
      this.#outstanding -= rows;
      if (chunks.length > 0 || !reading.isRead) continue;
      this.#readings.delete(key);
      this.#forget(job);
      // To load again forgets what is left of a backfill that is over.
      this.#isStale = true;
    }
    this.#options.rouse();
  }

  #forget(job: Job): void {
    this.#jobs = this.#jobs.filter((each) => keyOf(each) !== keyOf(job));
  }

  async #lookForCallers(): Promise<void> {
    this.#callersLook = null;
    if (this.#isOver || this.#out.size === 0) return;
    try {
      await this.#noteCommitted();
    } catch {
      // The session is lost, and the term with it.
      return;
    }
    if (!this.#isOver && this.#out.size > 0)
      this.#callersLook ??= setTimeout(() => void this.#lookForCallers(), LOOK).unref();
  }

  /** Takes note of the events that callers' transactions have acknowledged and that are committed. */
  async #noteCommitted(): Promise<void> {
    for (const backfill of new Set([...this.#out.values()].map(({ reading }) => reading.job.backfill))) {
      const rows = await this.#options.session.query<{ sequence: string }>(this.#sql.acknowledged, [
        backfill,
      ]);
      for (const { sequence } of rows) this.#take(sequence)?.byCallers.push(sequence);
    }
  }

  async #write(statement: BackfillSql['finish'], job: Job, values: readonly unknown[]): Promise<void> {
    const { holder, token } = this.#options.hold;
    if (token === null) throw leaseLost();
    const all = [job.backfill, holder, token, job.relation, ...values];
    const [held] = await this.#options.session.query(statement, all);
    if (!held) throw leaseLost();
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.close();
  }
}

interface Read {
  readonly snapshot: string;
  readonly changes: Change[];
  readonly cursor: string[] | null;
  /** How many rows the chunk has, whether or not the condition holds. */
  readonly scanned: number;
  /** Whether no row follows. */
  readonly last: boolean;
}

/** Numbers at the end of all numbers, which no change has. */
const PARKED_NUMBERS = 10n ** 12n;

const GONE = 'the table is gone';

/** The statement that keeps a table, $1, from being rewritten or dropped. */
const lockOf = {
  name: 'backfill_lock',
  text: `
SELECT format('LOCK TABLE %s%I.%I IN ACCESS SHARE MODE', CASE t.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname) AS lock, n.nspname AS schema
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE t.oid = $1::oid AND t.relkind IN ('r', 'p')`,
};

const keyOf = ({ backfill, relation }: Job): string => `${backfill} ${relation}`;

function adapt(reading: Reading, time: number, scanned: number): void {
  const most = Math.min(reading.job.chunk ?? MAX_CHUNK, MAX_CHUNK);
  const factor = scanned < reading.limit ? 1 : Math.min(2, CHUNK_TIME / time);
  reading.limit = Math.max(1, Math.min(most, Math.round(Math.max(reading.limit, 1) * factor)));
}

function sequenceOf({ backfill, relation }: Job, place: readonly string[]): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([relation, place]))
    .digest('hex');
  return (
    backfill.padStart(BACKFILL_DIGITS, '0') +
    String(BigInt(`0x${digest.slice(0, 24)}`)).padStart(ROW_DIGITS, '0')
  );
}

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

/**
 * Acknowledges the event of a row that was read, in the caller's transaction.
 * @throws {PostgresInputError} ERR_LEASE_LOST
 */
export async function acknowledgeReadIn(
  client: pg.ClientBase,
  names: Names,
  { seq, token }: { readonly seq: string; readonly token: string },
): Promise<void> {
  const { acknowledgeInTransaction } = backfillSql(names);
  const { rowCount } = await client.query(acknowledgeInTransaction, [
    seq.slice(0, BACKFILL_DIGITS),
    seq,
    token,
  ]);
  if (rowCount === 0) throw leaseLost();
}
