/**
 * Reads the change log.
 *
 * Transactions commit in any order, so a sequence says nothing about the changes that are still to come: a row may appear below one
 * that was read long ago. Therefore a snapshot, and not a high-water mark, says which changes have been read. The log is
 * read in passes:
 *
 *   Pass n reads the rows that snapshot n sees and snapshot n-1 did not see, in pages, in the order of their sequences.
 *
 * - Nothing is missed: a transaction that snapshot n-1 did not see is seen by a later snapshot.
 * - Nothing comes twice: each transaction is new to one pass only.
 * - A row's changes keep their order: the second of two transactions waits for the first to end, so it draws its
 *   sequences later, and no snapshot sees it without the first.
 * - A transaction that stays open delays nobody else's changes.
 *
 * The changes of a packed row have one xid, and keep their sequences when the row is unpacked, so a pass reads the same either way. A
 * page ends with a row. The next page starts after the last change of that row. If single rows share the numbers of a packed row, since the
 * sequence was set back, the packed row's changes get other numbers first, and the page is read anew.
 *
 * A log that was restored from another cluster holds xids of that cluster, about which a snapshot of this one says nothing. A row is known
 * as restored if its xid is greater than that of the moment at which reading began, and neither its sequence nor its time is: a
 * transaction of this cluster that began later writes later. A row is also known as restored if it is there although its
 * transaction has not ended. The first pass reads restored rows whatever its snapshot says, and later
 * passes leave them out. This is settled for the whole term, although the cluster's own xids reach the restored ones meanwhile. One case
 * can't be told from a change of this cluster: a restored row whose xid is that of a transaction that was in progress when reading began, and
 * that ends before the first pass has come to the row. The next pass reads that row.
 *
 * Where a pass starts: after the highest sequence allocated when the previous pass started. It starts lower only if a transaction
 * that was open at that time has ended since, and no lower than where that transaction began. Only then does it step over rows
 * that are acknowledged and not yet vacuumed. Which transactions were open: those that the snapshot lists, and those that it can't
 * list, because they are younger than every transaction that had ended (a snapshot ends there, at its xmax, and not at the next
 * xid). Therefore each pass draws an xid itself: a transaction with a greater xid began later. A pass may also end at a snapshot that was taken
 * before the pass before it started, as that of a chunk which a backfill has read ahead. That one can't list what began in between either.
 *
 * The sequence rises, unless somebody sets it back (log-sequence.ts). New changes then have sequences below the mark at which a pass would
 * start. So a pass starts at the beginning of the log if the sequence is lower than it was known to be, or if a notification has brought
 * a change whose sequence is below the mark although its transaction began later. The sequence may also have been set back a little, and
 * have risen again before anybody looked: therefore a mark lies OVERLAP below the sequence that it stands for. The snapshots alone
 * decide what a pass reads, so that nothing comes twice.
 *
 * Where a pass ends: at the highest sequence allocated when it started. Below that, there may be millions of rows that are
 * acknowledged and can't be vacuumed, because somebody holds an old snapshot. A statement that has stepped over such rows for some
 * time returns how far it came. The next statement goes on from there, and the lease can be renewed in between.
 *
 * models/reading.pml checks the reading exhaustively, apart from restored rows and the time limit.
 */
import type { Session } from '../postgres/session.ts';
import { Snapshot } from '../postgres/snapshot.ts';
import { END_OF_NUMBERS, STRIDE, Unpacker, hasFailedCondition, writtenRow } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import type { Hold } from './acknowledgements.ts';
import {
  type ChangeLogSql,
  type PageRow,
  changeLogSql,
  isMilestone,
  isShared,
  passOf,
  weightOf,
} from './change-log-sql.ts';
import { type Change, changeOf } from './change.ts';
import { array } from './named-rows.ts';
import type { RowShapes } from './row-shapes.ts';

/** A moment: every sequence allocated after it is above `drawn` unless the numbers fall, and every transaction that began after it has an xid above `xid`. */
interface Start {
  readonly drawn: bigint;
  readonly xid: bigint;
}

const BEFORE_ALL: Start = { drawn: 0n, xid: 0n };

/** The moment at which reading began. */
interface Beginning extends Start {
  /** As the server prints it, which is how it prints the times of rows too. */
  readonly at: string;
}

interface Pass {
  readonly start: Start;
  readonly snapshot: Snapshot;
  /** The last sequence read. */
  readonly after: string;
}

const startOf = (drawn: string, xid: string): Start => ({ drawn: BigInt(drawn), xid: BigInt(xid) });

function begin(first: PageRow): Pass {
  const { snapshot, drawn, xid } = passOf(first);
  return { start: startOf(drawn, xid), snapshot: new Snapshot(snapshot), after: '0' };
}

export interface Page {
  readonly changes: Change[];
  /** Whether the pass ends with this page: every change that its snapshot sees has been read. */
  readonly last: boolean;
}

/** Changes that were read before, in the order of their sequences. */
export interface EarlierChanges {
  readonly changes: Change[];
  /** They are all up to this sequence; null: all that have been read. */
  readonly upto: bigint | null;
}

const NO_HOLD: Hold = { holder: '', token: null };

/** About as many numbers as busy writers draw from one pass to the next. */
const OVERLAP = 200n * BigInt(STRIDE);

/** The mark that stands for this sequence. */
const below = (sequence: bigint): bigint => (sequence > OVERLAP ? sequence - OVERLAP : 0n);

export class ChangeLog {
  readonly #session: Session;
  readonly #sql: ChangeLogSql;
  readonly #patience: number;
  readonly #shapes: RowShapes | null;
  readonly #onConditionFailed: (table: string) => void;
  readonly #hold: Hold;
  /** The last statement whose condition has failed. */
  #failedStatement = '';

  /** The moment at which reading began. */
  #began: Beginning | null = null;
  /** The last complete pass; before the first pass, the moment at which reading began. */
  #complete: { readonly start: Start; readonly snapshot: Snapshot | null } | null = null;
  /** The pass that is being read. */
  #pass: Pass | null = null;
  /** The open transactions that the last complete pass's snapshot lists, and for each a sequence below all of its own. */
  #late: ReadonlyMap<string, bigint> = new Map();
  /** The same sequence for open transactions that the snapshot could not list. */
  #unlistedAfter = 0n;
  /** The start of the pass before the last complete one. */
  #beforePrevious: Start = BEFORE_ALL;

  /** Rows that were restored, of transactions that ended or began afterwards: the numbers that were written with their changes. */
  readonly #restored = new Set<string>();
  /** The highest sequence that this term knows of, except those at the end of all numbers. */
  #highest = 0n;
  /** What the sequence was known to have allocated last. */
  #allocated = 0n;
  /** Whether changes may have lower sequences than the marks say. */
  #numbersFell = false;

  /** The weight of a row of the last page, on average. */
  #perRow = 1;
  /** The same of the last page that was read again. */
  #perEarlierRow = 1;
  readonly #unpacker = new Unpacker(changeOf);

  /**
   * `patience`: for how long a page's statement may look for changes before it returns how far it came, in milliseconds. `shapes` is null where
   * nobody asks for data. `onConditionFailed`: called for each statement that was read and for which the condition of its table has failed. `hold`: the
   * lease of the term; without it, reading ends at a packed row with which single rows share numbers.
   */
  constructor(
    session: Session,
    names: Names,
    {
      patience = session.timeout / 4,
      shapes = null,
      onConditionFailed = () => {},
      hold = NO_HOLD,
    }: {
      patience?: number | undefined;
      shapes?: RowShapes | null;
      onConditionFailed?: (table: string) => void;
      hold?: Hold;
    } = {},
  ) {
    this.#session = session;
    this.#patience = patience;
    this.#shapes = shapes;
    this.#onConditionFailed = onConditionFailed;
    this.#hold = hold;
    this.#sql = changeLogSql(names);
  }

  /** Whether complete passes have read all changes of a transaction. */
  covers(xid: bigint): boolean {
    return this.#complete?.snapshot?.sees(xid) ?? false;
  }

  /** The highest sequence that this term knows of, except those at the end of all numbers. */
  get highest(): bigint {
    return this.#highest;
  }

  /** To be called when the numbers have fallen: the next pass starts at the beginning of the log. */
  noticeFall(): void {
    this.#numbersFell = true;
  }

  /** To be called for the changes that a notification brought, which are those of one transaction. */
  noticeNotified(changes: readonly Change[], xid: bigint): void {
    const { drawn, xid: begun } = this.#complete?.start ?? { drawn: 0n, xid };
    for (const { sequence } of changes) {
      const number = BigInt(sequence!);
      this.#noticeSequence(number);
      if (number > this.#allocated) this.#allocated = number;
      else if (number <= drawn && xid > begun) this.noticeFall();
    }
  }

  /**
   * The next page of the pass that is being read, else of a new pass. It ends with the row that brings it to this weight: with the last of
   * so many changes, or earlier if their texts are long.
   *
   * `upTo`: the snapshot of a new pass, where the pass is not to take one itself. It may be older than the start of the last complete pass, but
   * not older than that pass's snapshot.
   */
  async readPage(wanted: number, upTo: string | null = null): Promise<Page> {
    this.#began ??= await this.#readBeginning();
    this.#complete ??= { start: { ...this.#began, drawn: below(this.#began.drawn) }, snapshot: null };
    if (!this.#pass && this.#numbersFell) this.#forgetMarks(this.#complete);
    const page = await this.#readRows(wanted, upTo, this.#began, this.#complete);
    if (page) return page;
    this.#forgetMarks(this.#complete);
    return (await this.#readRows(wanted, upTo, this.#began, this.#complete))!;
  }

  /** Reads again, from a sequence on, what this term has read and is still there. It ends as a page does. */
  async readAgain(from: bigint, wanted: number): Promise<EarlierChanges> {
    const pass = this.#pass;
    const began = this.#began;
    const complete = this.#complete;
    const snapshot = pass?.snapshot ?? complete?.snapshot;
    if (!snapshot || !began || !complete) return { changes: [], upto: null };
    const limit = Math.ceil(wanted / this.#perEarlierRow);
    const values = [
      snapshot.text,
      (pass ?? complete).start.drawn,
      this.#patience,
      wanted,
      limit,
      BigInt(writtenRow(String(from))) - 1n,
      began.xid,
      began.drawn,
      began.at,
      complete.snapshot?.text ?? null,
      pass?.snapshot.text ?? null,
      pass?.after ?? null,
      [...this.#restored],
    ];
    const changes: Change[] = [];
    let milestone: bigint | null = null;
    let rows = -1;
    let weight = 0;
    await this.#session.eachRow(this.#sql.again, values, (row: PageRow) => {
      if (milestone !== null) return;
      rows++;
      if (rows === 0) return;
      if (isMilestone(row)) {
        milestone = BigInt(row[0]);
        return;
      }
      this.#unpacker.unpack(row, changes);
      weight += weightOf(row);
    });
    if (rows > 0) this.#perEarlierRow = weight / rows;
    await this.#shapes?.resolve(changes);
    if (weight < wanted && rows < limit && milestone === null) return { changes, upto: null };
    const read = BigInt(changes.at(-1)?.sequence ?? 0);
    return { changes, upto: milestone === null || read > milestone ? read : milestone };
  }

  /** Null if a new pass would start at the wrong mark, because the numbers have fallen. */
  async #readRows(
    wanted: number,
    upTo: string | null,
    began: Beginning,
    complete: { readonly start: Start; readonly snapshot: Snapshot | null },
  ): Promise<Page | null> {
    const limit = Math.ceil(wanted / this.#perRow);
    let pass = this.#pass;
    let rows = 0;
    let weight = 0;
    const changes: Change[] = [];
    const shared: string[] = [];
    const failed: PageRow[] = [];
    let milestone: string | null = null;
    let isFirst = true;
    await this.#fetch([wanted, limit], upTo, began, complete, (row) => {
      if (isFirst) {
        isFirst = false;
        pass ??= begin(row);
      } else if (isMilestone(row)) {
        milestone ??= row[0];
      } else if (isShared(row)) {
        shared.push(row[0]);
      } else if (milestone === null) {
        this.#unpacker.unpack(row, changes);
        if (hasFailedCondition(row[5])) failed.push(row);
        if (complete.snapshot === null) this.#rememberIfRestored(row, began, pass!.snapshot);
        weight += weightOf(row);
        rows++;
      }
    });
    if (shared.length > 0)
      return (await this.#moveShared(shared))
        ? this.#readRows(wanted, upTo, began, complete)
        : { changes: [], last: true };
    const { start } = pass!;
    if (!this.#pass && start.drawn !== 0n) {
      const fell = start.drawn < this.#allocated;
      this.#allocated = start.drawn;
      if (fell) return null;
    }
    await this.#shapes?.resolve(changes);
    const read = changes.at(-1)?.sequence ?? pass!.after;
    // The statement may have read a packed row, and have come no further than to the row's own sequence.
    const after = milestone === null || BigInt(read) > BigInt(milestone) ? read : milestone;
    const last = weight < wanted && rows < limit && milestone === null;
    if (rows > 0) this.#perRow = weight / rows;
    this.#pass = { ...pass!, after };
    this.#noticeSequence(start.drawn);
    this.#noticeSequence(BigInt(read));
    if (last) this.#finishPass(this.#pass, complete.start);
    for (const row of failed) if (this.#isNextFailedStatement(row)) this.#onConditionFailed(row[2]);
    const isFirstPass = complete.snapshot === null;
    return { changes: isFirstPass ? changes : this.#withoutRestored(changes), last };
  }

  /** Gives the changes of packed rows numbers that no single rows have. Returns whether the lease is held. */
  async #moveShared(rows: readonly string[]): Promise<boolean> {
    const { holder, token } = this.#hold;
    if (token === null) return false;
    return (await this.#session.query(this.#sql.moveShared, [array(rows), holder, token])).length > 0;
  }

  /** All rows of a statement follow each other, and have one time. */
  #isNextFailedStatement([, at, table, , , , , xid]: PageRow): boolean {
    const statement = `${xid} ${at} ${table}`;
    if (statement === this.#failedStatement) return false;
    this.#failedStatement = statement;
    return true;
  }

  /** Of rows that the first pass has read, later passes would read those whose transactions the first snapshot did not see. */
  #rememberIfRestored([seq, at, , , , , , xid]: PageRow, began: Beginning, snapshot: Snapshot): void {
    if (snapshot.sees(BigInt(xid))) return;
    const isKnown = BigInt(xid) > began.xid && BigInt(seq) <= began.drawn && at <= began.at;
    if (!isKnown) this.#restored.add(writtenRow(seq));
  }

  #withoutRestored(changes: Change[]): Change[] {
    if (this.#restored.size === 0) return changes;
    return changes.filter(({ sequence }) => !this.#restored.has(writtenRow(sequence!)));
  }

  /** The next pass starts at the beginning of the log, and so does every later one that has to find a transaction that is open now. */
  #forgetMarks({ start, snapshot }: { readonly start: Start; readonly snapshot: Snapshot | null }): void {
    this.#complete = { start: { ...start, drawn: 0n }, snapshot };
    this.#late = new Map([...this.#late.keys()].map((xid) => [xid, 0n]));
    this.#unlistedAfter = 0n;
    this.#beforePrevious = BEFORE_ALL;
    this.#numbersFell = false;
  }

  #noticeSequence(sequence: bigint): void {
    if (sequence > this.#highest && sequence < END_OF_NUMBERS) this.#highest = sequence;
  }

  async #readBeginning(): Promise<Beginning> {
    const [row] = await this.#session.query<{ drawn: string; xid: string; at: string }>(this.#sql.start);
    return { ...startOf(row!.drawn, row!.xid), at: row!.at };
  }

  #fetch(
    limits: readonly number[],
    upTo: string | null,
    began: Beginning,
    { start: previous, snapshot: seen }: { readonly start: Start; readonly snapshot: Snapshot | null },
    onRow: (row: PageRow) => void,
  ): Promise<void> {
    const pass = this.#pass;
    const common = [pass?.snapshot.text ?? upTo, pass?.start.drawn ?? null, this.#patience, ...limits];
    const restored = [began.xid, began.drawn, began.at];
    if (!seen) {
      const values = [...common, pass?.after ?? '0', ...restored];
      return this.#session.eachRow(this.#sql.firstPass, values, onRow);
    }
    const late = pass ? [] : [...this.#late];
    const someUnlisted = seen.xmax < previous.xid;
    const values = [
      ...common,
      pass?.after ?? (someUnlisted ? this.#unlistedAfter : previous.drawn),
      ...restored,
      late.map(([xid]) => xid),
      late.map(([, after]) => after),
      seen.text,
    ];
    return this.#session.eachRow(this.#sql.nextPass, values, onRow);
  }

  #finishPass({ start, snapshot, after: read }: Pass, previous: Start): void {
    // Transactions that were open when the previous pass started are known since then; all others began after it.
    const after = (xid: string) =>
      this.#late.get(xid) ?? (BigInt(xid) < previous.xid ? this.#unlistedAfter : previous.drawn);
    this.#late = new Map([...snapshot.inProgress].map((xid) => [xid, after(xid)]));
    // A snapshot that was given may be older than the moment at which the previous pass started, and than transactions that began in between.
    const earlier = [previous, this.#beforePrevious].find(({ xid }) => snapshot.xmax >= xid);
    if (earlier) this.#unlistedAfter = earlier.drawn;
    this.#beforePrevious = previous;
    // If the role may not read the sequence's value, the last change that was read stands in for it.
    const known = previous.drawn > BigInt(read) ? previous.drawn : BigInt(read);
    const mark = start.drawn === 0n ? known : below(start.drawn);
    this.#complete = { start: { ...start, drawn: mark }, snapshot };
    this.#pass = null;
  }
}
