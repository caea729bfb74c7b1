/** Reads one chunk of a table: the next rows, as a snapshot sees them, and that snapshot. */
import { PostgresInputError } from '../api/errors.ts';
import type { Part } from '../postgres/batch.ts';
import type { Session } from '../postgres/session.ts';
import { isPrivilegeError, isReadOnly } from '../postgres/sqlstates.ts';
import type { Details, Key } from '../schema/log-layout.ts';
import type { Reading } from './backfill-acknowledgements.ts';
import type { Job } from './backfill-store.ts';
import {
  BackfillTable,
  CHUNK_LIMIT,
  type ChunkRow,
  type RowSettings,
  beginChunk,
  beginningOf,
  searchBeside,
  unreadable,
} from './backfill-table.ts';
import { Change } from './change.ts';
import { readSequences } from './read-sequences.ts';
import type { RowShape } from './row-shapes.ts';

export interface ChunkReaderOptions {
  readonly rowSettings: RowSettings;
  /** Connects a session for the chunks, whose statements have so many milliseconds. */
  readonly openSession: (statementTimeout: number) => Promise<Session>;
  /** Called when the table has to be read from its beginning, since its key is another one than before. Sets the job back. */
  readonly restart: (reading: Reading, keyColumns: string) => Promise<void>;
}

export interface Read {
  readonly snapshot: string;
  readonly changes: Change[];
  /** What the job had read before. */
  readonly after: readonly string[];
  /** The last row's place, or what the job had read before if there is none. */
  readonly cursor: readonly string[];
  /** How many rows the chunk has, whether or not the condition holds. */
  readonly scanned: number;
  /** Whether no row follows. */
  readonly last: boolean;
  /** How long the chunk's transaction took, in milliseconds. */
  readonly time: number;
}

/** For how long the server works on one row for which {@link CHUNK_LIMIT} was too short, in milliseconds. */
const ROW_LIMIT = 60_000;
/** How much longer an answer may take, in milliseconds. Then the session is lost: live changes wait for a chunk. */
const ON_THE_WAY = 3000;
const CHUNK_TIMEOUT = CHUNK_LIMIT + ON_THE_WAY;

/** The classes of the SQLSTATEs that a chunk of a table may have whose description is no longer true: a name is another one, or gone. */
const OUT_OF_DATE = /^(42|3F)/;

/** The transactions of the chunks have a session of their own, since a chunk takes longer than the control session may be without an answer. */
export class ChunkReader {
  readonly #options: ChunkReaderOptions;
  #session: Session | null = null;
  /** The table of the chunk before. */
  #known: { readonly oid: string; readonly table: BackfillTable } | null = null;

  constructor(options: ChunkReaderOptions) {
    this.#options = options;
  }

  get isLost(): boolean {
    return this.#session?.isLost ?? false;
  }

  /**
   * Reads the rows after the place `after`, as many at most as `reading` says; 0: one row, without its data.
   *
   * A chunk takes one round trip as long as the table is the one that it was at the chunk before.
   */
  async read(reading: Reading, after: readonly string[]): Promise<Read> {
    const { job, isPatient } = reading;
    const session = (this.#session ??= await this.#options.openSession(CHUNK_TIMEOUT));
    for (;;) {
      const table = await this.#find(session, job.table);
      // A place in the table of before says nothing of the rows of another one.
      const keyColumns = table.keyColumns + (job.table === job.relation ? '' : ` of ${job.table}`);
      if (job.keyColumns !== keyColumns) {
        await this.#options.restart(reading, keyColumns);
        after = job.after;
      }
      const chunk = new Chunk(reading, after, table);
      try {
        const began = performance.now();
        await session.batch(
          chunk.statements(this.#options.rowSettings),
          (row, part) => chunk.take(row, part),
          isPatient ? ROW_LIMIT + ON_THE_WAY : CHUNK_TIMEOUT,
        );
        if (chunk.isOfTable) return chunk.result(performance.now() - began);
        this.#known = null;
      } catch (error) {
        this.#known = null;
        const { code = '' } = error as { code?: string };
        // A condition that writes always fails, since the chunk's own transaction takes no writes. As it is, the error says that the server takes none now.
        if (isReadOnly(error))
          throw new PostgresInputError(
            'ERR_INSTALL',
            `its condition writes to the database (${(error as Error).message})`,
          );
        if (session.isLost || !OUT_OF_DATE.test(code)) throw error;
        const { described } = await this.#find(session, job.table);
        if (described !== table.described) continue;
        throw isPrivilegeError(error) && !chunk.isOfTable ? unreadable(table.schema, table.name) : error;
      }
    }
  }

  async #find(session: Session, oid: string): Promise<BackfillTable> {
    if (this.#known?.oid === oid) return this.#known.table;
    const { rowSettings } = this.#options;
    const table = await session.transaction(beginChunk, () => BackfillTable.find(session, oid, rowSettings));
    if (!table) throw new PostgresInputError('ERR_INSTALL', 'the table is gone');
    this.#known = { oid, table };
    return table;
  }

  /** Closes the session. The next chunk gets another one. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    this.#known = null;
    await session?.close();
  }
}

/** A chunk while it is read: its statements, and the rows that have arrived. */
class Chunk {
  /** Whether the transaction sees the table as it is described. If not, its rows mean nothing. */
  isOfTable = false;
  readonly #job: Job;
  readonly #table: BackfillTable;
  readonly #wanted: number;
  readonly #isReadable: boolean;
  readonly #skipped: ReadonlySet<string>;
  readonly #isPatient: boolean;
  readonly #location: string;
  readonly #sequenceOf: (place: readonly string[]) => string;
  readonly #shape: string | null;
  readonly #after: readonly string[];
  readonly #at = new Date().toISOString().replace('Z', '000Z');
  readonly #onPart: ((row: (string | null)[]) => void)[] = [];
  readonly #changes: Change[] = [];
  #snapshot = '';
  #blocks = 0;
  #cursor: string[] | null = null;
  #scanned = 0;

  constructor({ job, limit, skipped, isPatient }: Reading, after: readonly string[], table: BackfillTable) {
    this.#isPatient = isPatient;
    this.#job = job;
    this.#after = after;
    this.#table = table;
    this.#wanted = Math.max(limit, 1);
    this.#isReadable = limit > 0;
    this.#skipped = skipped;
    this.#location = table.location;
    this.#sequenceOf = readSequences(job, table);
    this.#shape = table.shape && JSON.stringify(table.shape);
  }

  /**
   * The table is locked before the snapshot is taken: a table that is rewritten in between, as by ALTER TABLE, would look empty. It is locked
   * by its name. If the name is another table's now, or the table has changed, the snapshot shows that.
   */
  statements(settings: RowSettings): Part[] {
    const { table: oid, condition } = this.#job;
    const table = this.#table;
    const statements: Part[] = beginChunk.map((text) => ({ text }));
    if (this.#isPatient) statements.push({ text: `SET LOCAL statement_timeout = ${ROW_LIMIT}` });
    statements.push(table.lock);
    const add = (part: Part, onRow: (row: (string | null)[]) => void) => {
      this.#onPart[statements.length] = onRow;
      statements.push(part);
    };
    add(BackfillTable.snapshot(oid, settings), ([snapshot, described]) => {
      this.#snapshot = snapshot!;
      this.isOfTable = described === table.described;
    });
    if (table.isByPlace) add(table.blocks, ([blocks]) => (this.#blocks = Number(blocks)));
    if (condition !== null) statements.push({ text: searchBeside(table.schema) });
    add(table.chunk(this.#after, this.#wanted, condition, this.#isReadable), (row) => {
      if (this.isOfTable) this.#takeRow(row as ChunkRow);
    });
    return statements;
  }

  take(row: (string | null)[], part: number): void {
    this.#onPart[part]?.(row);
  }

  #takeRow(row: ChunkRow): void {
    const table = this.#table;
    const place = table.placeOf(row);
    this.#scanned++;
    this.#cursor = place;
    const [id, , after] = row;
    if (id === null) return;
    const sequence = this.#sequenceOf(place);
    if (this.#skipped.has(sequence)) return;
    const key = table.keyOf(row);
    this.#changes.push(
      changeOf(sequence, this.#location, id, key, this.#at, after, this.#shape, table.shape),
    );
  }

  /** A table without a key has ended only when no block follows. A range of blocks without rows is passed over. */
  result(time: number): Read {
    const after = this.#after;
    const found = { snapshot: this.#snapshot, changes: this.#changes, after, scanned: this.#scanned, time };
    if (this.#cursor) return { ...found, cursor: this.#cursor, last: false };
    if (!this.#table.isByPlace) return { ...found, cursor: after, last: true };
    const end = this.#table.endOf(after, this.#wanted);
    return { ...found, cursor: beginningOf(end), last: end >= this.#blocks };
  }
}

function changeOf(
  sequence: string,
  location: string,
  id: string,
  key: Key,
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
  const change = new Change(sequence, location, 'read', id, key, at, null, '', details);
  change.shape = omitted ?? shape;
  return change;
}
