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
 * The next chunk is read ahead: its transaction begins when the chunk before has arrived. The pass of 1 is left out then, since the pass of 3
 * was complete up to the snapshot before. No other pass may go beyond S before the chunk's events. If one has to, the chunk is given up.
 *
 * - A `read` event is never older than a change of its row that came before: S sees all these changes, and the row is as S sees it.
 * - It is never newer than a change that comes after: S does not see any of them. That includes a transaction that was open when S was taken.
 * - A row whose key changes between two chunks may be read twice, or not at all. Its new key then comes as a `create`.
 * - Nothing of the application's is locked but by the weakest lock, nothing is written to its tables, and no transaction is longer than a chunk.
 *
 * Progress is kept in the table of backfills: the last key of the last chunk of which, and of all chunks before it, every event is
 * acknowledged. A term begins there, so that after the death of a node at most the events of chunks in hand come again, under the same
 * sequences: a sequence is made of the backfill's number, the table, and the row's key. A term that ends well keeps what was acknowledged of them.
 *
 * An event that is acknowledged in a caller's transaction is a row which that transaction inserts into the same table. The row's
 * primary key makes a second acknowledgement fail. A chunk is over only when these rows are committed; then they are deleted. A chunk that is
 * read again leaves out the events that have such rows.
 *
 * Live changes come first: a chunk is read only when the last pass has found less than a page and the sink has room for a page. One chunk is
 * read ahead at most. A chunk has as many rows as about 100 ms can read; one that takes more than two seconds is tried again with fewer rows.
 *
 * A table whose key or oid is another one than before, or whose rows were written anew where it has no key, is read from its beginning again, under other
 * sequences.
 *
 * models/backfill.pml checks chunks, progress and takeovers exhaustively.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Session } from '../postgres/session.ts';
import { LOCKED, isConnectionError, isTransient } from '../postgres/sqlstates.ts';
import type { Names } from '../schema/names.ts';
import type { Hold } from './acknowledgements.ts';
import { BackfillAcknowledgements, type Reading } from './backfill-acknowledgements.ts';
import { ChunkReader, type Read } from './backfill-chunk.ts';
import { BackfillStore, type Job, keyOf } from './backfill-store.ts';
import { NotWatchedError, type RowSettings } from './backfill-table.ts';
import { PAGE } from './passes.ts';
import { MAX_READS_OUT, type Sink } from './sink.ts';

export interface BackfillsOptions {
  readonly session: Session;
  readonly names: Names;
  readonly sink: Sink;
  readonly hold: Hold;
  readonly rowSettings: RowSettings;
  /** Connects a session for the chunks, whose statements have so many milliseconds. */
  readonly openSession: (statementTimeout: number) => Promise<Session>;
  /** Called when a chunk can be read that could not be read a moment ago. */
  readonly rouse: () => void;
  readonly notify: Notify;
  /** Called when progress could not be kept although the lease is held. */
  readonly fail: (error: unknown) => void;
}

/** How long a chunk is to take, in milliseconds. */
const CHUNK_TIME = 100;
const FIRST_CHUNK = 100;
const MAX_CHUNK = 2000;
/** Before a chunk is tried again, in milliseconds. */
const RETRY = 1000;

/** The SQLSTATEs of a statement that has reached its time limit, or another limit of the server. One row alone has no smaller chunk. */
const TOO_MUCH = /^(54|57014)/;
/** The SQLSTATE of a statement that has reached its time limit. */
const CANCELED = '57014';
/** The SQLSTATEs of a server that is short of something, which says nothing against a row. */
const SHORTAGE = /^53/;
/**
 * The SQLSTATEs of a chunk that a smaller one may not have: those of values, of resources and limits, of a statement that took too long, of
 * functions (the condition's, or an output function), and of damaged rows.
 */
const ROW_OR_CHUNK = /^(2[123]|38|39|53|54|57014|P0|XX)/;

/** A chunk that is being read while the consumer has the one before. */
interface Ahead {
  readonly reading: Reading;
  /** What the job had read when this chunk was begun. */
  readonly after: readonly string[];
  readonly read: Promise<Read>;
}

export class Backfills {
  readonly acknowledgements: BackfillAcknowledgements;
  readonly #options: BackfillsOptions;
  readonly #store: BackfillStore;
  readonly #reader: ChunkReader;
  #jobs: Job[] = [];
  readonly #readings = new Map<string, Reading>();
  /** Those of tables that this node does not watch. */
  readonly #aside = new Set<Reading>();
  #isStale = true;
  #retryAt = 0;
  /** Until when the tables are left alone that somebody has locked, by their jobs: others are read meanwhile. */
  readonly #lockedUntil = new Map<string, number>();
  #retrying: NodeJS.Timeout | undefined;
  #isOver = false;
  #ahead: Ahead | null = null;
  /** Whether live changes left time for the next chunk when there was one last. */
  #hasTime = true;

  constructor(options: BackfillsOptions) {
    const { session, names, hold, rowSettings, openSession, rouse, notify, fail } = options;
    this.#options = options;
    this.#store = new BackfillStore(session, names, hold);
    this.acknowledgements = new BackfillAcknowledgements({
      store: this.#store,
      hold,
      finished: (reading, isDone) => {
        const { backfill, location: table } = reading.job;
        if (isDone) notify('backfillDone', { backfill, table });
        this.#forget(reading);
      },
      rouse,
      fail,
    });
    this.#reader = new ChunkReader({
      rowSettings,
      openSession,
      restart: (reading, keyColumns) => this.#restart(reading, keyColumns),
    });
  }

  /** Whether a chunk may be there to read, so that the reader stays awake. */
  get isReady(): boolean {
    return !this.#isOver && (this.#isStale || this.#ahead !== null || this.#next !== null);
  }

  /**
   * Whether the next chunk has a snapshot already, at which the next pass has to end. Otherwise a pass may go beyond every snapshot of before,
   * so a chunk that was read ahead and can't be used is given up.
   */
  keepAhead(): boolean {
    const ahead = this.#ahead;
    if (ahead && (ahead.after !== ahead.reading.job.after || !this.#isNext(ahead.reading)))
      this.#ahead = null;
    return this.#ahead !== null;
  }

  /** To be called when somebody has asked for a backfill, or paused, resumed or cancelled one. */
  onChanged(): void {
    this.#isStale = true;
    this.#options.rouse();
  }

  get #next(): Job | null {
    const now = performance.now();
    const isWaiting = this.acknowledgements.outstanding >= MAX_READS_OUT || now < this.#retryAt;
    if (isWaiting || this.#options.sink.dropped?.any) return null;
    const isLeft = (job: Job) =>
      job.state !== 'paused' &&
      !this.#readings.get(keyOf(job))?.isRead &&
      now >= (this.#lockedUntil.get(keyOf(job)) ?? 0);
    return this.#jobs.find(isLeft) ?? null;
  }

  /**
   * Brings a chunk, if there is one to read, after a complete pass. `passUpTo` makes a pass that ends at a snapshot, and returns whether live
   * changes leave time for the next chunk. Returns whether there was one.
   */
  async step(passUpTo: (snapshot: string) => Promise<boolean>, signal: AbortSignal): Promise<boolean> {
    if (this.#isOver) return false;
    if (this.#isStale) await this.#load();
    const job = this.#next;
    if (!job || signal.aborted) return false;
    const reading = this.#readings.get(keyOf(job)) ?? (await this.#begin(job));
    const ahead = this.keepAhead() ? this.#ahead : null;
    this.#ahead = null;
    const { job: own } = reading;
    let read: Read;
    try {
      read = await (ahead ?? this.#read(reading, own.after)).read;
    } catch (error) {
      await this.#fail(reading, error);
      return true;
    }
    adapt(reading, read.time, read.scanned);
    // The server reads it while this chunk is handed out.
    const next = this.#mayFollow(reading, read) ? this.#read(reading, read.cursor) : null;
    this.#hasTime = await passUpTo(read.snapshot);
    // Meanwhile the consumer may have had no room for an event before the chunk.
    if (signal.aborted || own.after !== read.after) return true;
    this.acknowledgements.add(reading, read);
    const { sink } = this.#options;
    sink.push(read.changes);
    if (this.#hasTime && sink.roomApart > -PAGE && this.#isNext(reading)) this.#ahead = next;
    return true;
  }

  #mayFollow(reading: Reading, { changes, last }: Read): boolean {
    const isRoom =
      this.acknowledgements.outstanding + changes.length < MAX_READS_OUT &&
      this.#options.sink.roomApart - changes.length > -PAGE;
    return this.#hasTime && !last && isRoom && this.#isNext(reading);
  }

  #isNext({ job }: Reading): boolean {
    const next = this.#next;
    return next !== null && keyOf(next) === keyOf(job);
  }

  #read(reading: Reading, after: readonly string[]): Ahead {
    const read = this.#reader.read(reading, after);
    // It may be given up before it has failed.
    read.catch(() => {});
    return { reading, after, read };
  }

  /** To be called when the consumer had no room for an event. */
  readAgain(sequence: string): void {
    this.acknowledgements.readAgain(sequence);
  }

  /** Whether a row that a backfill has read is out in this term. To be called before a caller's transaction acknowledges it. */
  noteRead(sequence: string): boolean {
    return this.acknowledgements.noteRead(sequence);
  }

  /** Whether the term has the lease, as the database says now. */
  isLeaseHeld(): Promise<boolean> {
    return this.#store.isLeaseHeld();
  }

  /** The term is over: nothing is read any more. */
  async end(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#retrying);
    this.acknowledgements.end();
    await this.#reader.close();
  }

  async #load(): Promise<void> {
    this.#isStale = false;
    const out = [...this.#readings.values()].map(({ job }) => job.backfill);
    const jobs = await this.#store.load(out);
    if (!jobs) return;
    this.#jobs = jobs;
    // They are tried again.
    for (const { job, chunks } of this.#aside) if (chunks.length === 0) this.#readings.delete(keyOf(job));
    this.#aside.clear();
    const present = new Set(jobs.map(keyOf));
    // One that is cancelled goes on with what is out, and reads no more.
    for (const [key, reading] of this.#readings) if (!present.has(key)) this.#stop(reading);
    if (jobs.length === 0) await this.#reader.close();
  }

  async #begin(job: Job): Promise<Reading> {
    const reading: Reading = {
      job,
      limit: Math.min(job.chunk ?? FIRST_CHUNK, FIRST_CHUNK),
      isPatient: false,
      isRead: false,
      isCancelled: false,
      skipped: new Set(await this.#store.acknowledged(job.backfill)),
      chunks: [],
    };
    this.#readings.set(keyOf(job), reading);
    return reading;
  }

  /** The key is another one than before, or this is the first chunk. */
  async #restart(reading: Reading, keyColumns: string): Promise<void> {
    const { job } = reading;
    this.acknowledgements.restart(reading);
    // At once: a chunk that was read in the old order may be on its way.
    job.after = [];
    await this.#store.begin(job, keyColumns);
    job.keyColumns = keyColumns;
    job.state = 'running';
  }

  /**
   * An error of the table ends its backfill, and so does a row of which nothing can be read. A table that this node does not watch is left to a
   * node that does. A chunk that failed for another reason is tried again. When the lease is lost, nothing more is read: the end of the term is on its way.
   */
  async #fail(reading: Reading, error: unknown): Promise<void> {
    const { code = '' } = error as { code?: string };
    if (this.#options.session.isLost) throw error;
    if (error instanceof NotWatchedError) {
      Object.assign(reading, { isRead: true, isCancelled: true });
      this.#aside.add(reading);
      return;
    }
    if (code === 'ERR_LEASE_LOST') {
      this.#isOver = true;
      return;
    }
    if (this.#reader.isLost || isConnectionError(error)) {
      await this.#reader.close();
      return this.#retryLater();
    }
    if (code === CANCELED && reading.limit <= 1 && !reading.isPatient) {
      reading.isPatient = true;
      return;
    }
    // A chunk may be too much at once, or have a row that can't be printed: that one, read alone, comes without data.
    const least = SHORTAGE.test(code) ? 1 : 0;
    if (ROW_OR_CHUNK.test(code) && reading.limit > least) {
      reading.limit = Math.max(Math.floor(reading.limit / 4), least);
      return;
    }
    const { job } = reading;
    if (code === LOCKED) return this.#retryLater(job);
    if (isTransient(error) && !TOO_MUCH.test(code)) return this.#retryLater();
    this.#stop(reading);
    const tell = () => this.#options.notify('backfillFailed', failureOf(job, error));
    try {
      const isFailed = await this.#store.fail(job, (error as Error).message);
      if (isFailed) tell();
    } catch (failure) {
      // The server may have kept it all the same. Then no term reads the table again, so nobody else would tell.
      if (this.#options.session.isLost) tell();
      // What is refused now would be refused again and again.
      const isLost = (failure as { code?: string }).code === 'ERR_LEASE_LOST';
      if (!isLost && !isConnectionError(failure) && !isTransient(failure)) throw failure;
      await this.#fail(reading, failure);
    }
  }

  /** `job`: nothing else has to wait. */
  #retryLater(job: Job | null = null): void {
    const at = performance.now() + RETRY;
    if (job) this.#lockedUntil.set(keyOf(job), at);
    else this.#retryAt = at;
    clearTimeout(this.#retrying);
    this.#retrying = setTimeout(() => this.#options.rouse(), RETRY + 1).unref();
  }

  /** Reads no more of a table. What is out goes on. */
  #stop(reading: Reading): void {
    reading.isRead = true;
    reading.isCancelled = true;
    if (reading.chunks.length === 0) this.#forget(reading);
    else this.#dequeue(reading.job);
  }

  #forget({ job }: Reading): void {
    this.#readings.delete(keyOf(job));
    this.#dequeue(job);
    // To load again forgets what is left of a backfill that is over.
    this.#isStale = true;
  }

  #dequeue(job: Job): void {
    this.#lockedUntil.delete(keyOf(job));
    this.#jobs = this.#jobs.filter((each) => keyOf(each) !== keyOf(job));
  }
}

function adapt(reading: Reading, time: number, scanned: number): void {
  const most = Math.min(reading.job.chunk ?? MAX_CHUNK, MAX_CHUNK);
  const factor = scanned < reading.limit ? 1 : Math.min(2, CHUNK_TIME / time);
  reading.isPatient = false;
  reading.limit = Math.max(1, Math.min(most, Math.round(Math.max(reading.limit, 1) * factor)));
}

/** Why the backfill of a table has failed. A message of the server, or of anything else that has met the rows, may quote a row. */
function failureOf({ backfill, location: table }: Job, error: unknown) {
  const reason =
    error instanceof PostgresInputError
      ? error.message
      : `a chunk failed with ${(error as { code?: string }).code ?? (error as Error).name}: \`backfill --id ${backfill} --wait\` tells what the server said`;
  const message = `${table} can not be read, and its backfill is cancelled: ${reason}; rows that were not read come only with another backfill`;
  return { backfill, table, error: new PostgresInputError('ERR_INSTALL', message) };
}
