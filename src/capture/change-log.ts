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
 * page ends with a row. The next page starts after the last change of that row.
 *
 * A log that was restored from another cluster holds xids of that cluster, about which a snapshot of this one says nothing. A row is known
 * as restored if its xid is greater than that of the moment at which reading began, and its sequence is not: a
 * transaction of this cluster that began later has greater sequences. The first pass reads such rows whatever its snapshot says, and later
 * passes leave them out. This is settled for the whole term, although the cluster's own xids reach the restored ones meanwhile. A
 * restored row whose xid is that of a transaction in progress when reading begins is read when that transaction has ended.
 *
 * Where a pass starts: after the highest sequence allocated when the previous pass started. It starts lower only if a transaction
 * that was open at that time has ended since, and no lower than where that transaction began. Only then does it step over rows
 * that are acknowledged and not yet vacuumed. Which transactions were open: those that the snapshot lists, and those that it can't
 * list, because they are younger than every transaction that had ended (a snapshot ends there, at its xmax, and not at the next
 * xid). Therefore each pass draws an xid itself: a transaction with a greater xid began later.
 *
 * Where a pass ends: at the highest sequence allocated when it started. Below that, there may be millions of rows that are
 * acknowledged and can't be vacuumed, because somebody holds an old snapshot. A statement that has stepped over such rows for some
 * time returns how far it came. The next statement goes on from there, and the lease can be renewed in between.
 */
import type { Session } from '../postgres/session.ts';
import { Snapshot } from '../postgres/snapshot.ts';
import { Unpacker } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import {
  type ChangeLogSql,
  type PageRow,
  changeLogSql,
  isMilestone,
  passOf,
  weightOf,
} from './change-log-sql.ts';
import { type Change, changeOf } from './change.ts';

/** A moment: all sequences allocated before it are up to `drawn`, and every transaction that began after it has an xid above `xid`. */
interface Start {
  readonly drawn: bigint;
  readonly xid: bigint;
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
  /** Whether the pass ends with this page: every change that was committed before the pass began has been read. */
  readonly last: boolean;
}

export class ChangeLog {
  readonly #session: Session;
  readonly #sql: ChangeLogSql;
  readonly #patience: number;

  /** The moment at which reading began. */
  #began: Start | null = null;
  /** The last complete pass; before the first pass, the moment at which reading began. */
  #complete: { readonly start: Start; readonly snapshot: Snapshot | null } | null = null;
  /** The pass that is being read. */
  #pass: Pass | null = null;
  /** The open transactions that the last complete pass's snapshot lists, and for each a sequence below all of its own. */
  #late: ReadonlyMap<string, bigint> = new Map();
  /** The same sequence for open transactions that the snapshot could not list. */
  #unlistedAfter = 0n;

  /** The weight of a row of the last page, on average. */
  #perRow = 1;
  readonly #unpacker = new Unpacker(changeOf);

  /** `patience`: for how long a page's statement may look for changes before it returns how far it came, in milliseconds. */
  constructor(session: Session, names: Names, patience = session.timeout / 4) {
    this.#session = session;
    this.#patience = patience;
    this.#sql = changeLogSql(names);
  }

  /** Whether complete passes have read all changes of a transaction. */
  covers(xid: bigint): boolean {
    return this.#complete?.snapshot?.sees(xid) ?? false;
  }

  /**
   * The next page of the pass that is being read, else of a new pass. It ends with the row that brings it to this weight: with the last of
   * so many changes, or earlier if their texts are long.
   */
  async readPage(wanted: number): Promise<Page> {
    this.#began ??= await this.#readStart();
    this.#complete ??= { start: this.#began, snapshot: null };
    const limit = Math.ceil(wanted / this.#perRow);
    let first: PageRow | undefined;
    let rows = 0;
    let weight = 0;
    const changes: Change[] = [];
    let milestone: string | null = null;
    await this.#fetch([wanted, limit], this.#began, this.#complete, (row) => {
      if (!first) {
        first = row;
      } else if (isMilestone(row)) {
        milestone ??= row[0];
      } else if (milestone === null) {
        this.#unpacker.unpack(row, changes);
        weight += weightOf(row);
        rows++;
      }
    });
    const pass = this.#pass ?? begin(first!);
    const read = changes.at(-1)?.sequence ?? pass.after;
    // The statement may have read a packed row, and have come no further than to the row's own sequence.
    const after = milestone === null || BigInt(read) > BigInt(milestone) ? read : milestone;
    const last = weight < wanted && rows < limit && milestone === null;
    if (rows > 0) this.#perRow = weight / rows;
    this.#pass = { ...pass, after };
    if (last) this.#finishPass(this.#pass, this.#complete.start);
    return { changes, last };
  }

  async #readStart(): Promise<Start> {
    const [row] = await this.#session.query<{ drawn: string; xid: string }>(this.#sql.start);
    return startOf(row!.drawn, row!.xid);
  }

  #fetch(
    limits: readonly number[],
    began: Start,
    { start: previous, snapshot: seen }: { readonly start: Start; readonly snapshot: Snapshot | null },
    onRow: (row: PageRow) => void,
  ): Promise<void> {
    const pass = this.#pass;
    const common = [pass?.snapshot.text ?? null, pass?.start.drawn ?? null, this.#patience, ...limits];
    const restored = [began.xid, began.drawn];
    if (!seen) {
      const values = [...common, pass?.after ?? '0', ...restored];
      return this.#session.eachRow(this.#sql.firstPass, values, onRow);
    }
    const late = pass ? [] : [...this.#late];
    const someUnlisted = seen.xmax < previous.xid;
    const values = [
      ...common,
      pass?.after ?? (someUnlisted ? this.#unlistedAfter : previous.drawn),
      late.map(([xid]) => xid),
      late.map(([, after]) => after),
      seen.text,
      ...restored,
    ];
    return this.#session.eachRow(this.#sql.nextPass, values, onRow);
  }

  #finishPass({ start, snapshot, after: read }: Pass, previous: Start): void {
    // Transactions that were open when the previous pass started are known since then; all others began after it.
    const after = (xid: string) =>
      this.#late.get(xid) ?? (BigInt(xid) < previous.xid ? this.#unlistedAfter : previous.drawn);
    this.#late = new Map([...snapshot.inProgress].map((xid) => [xid, after(xid)]));
    this.#unlistedAfter = previous.drawn;
    // If the role may not read the sequence's value, the last change that was read stands in for it.
    const drawn = [start.drawn, previous.drawn, BigInt(read)].reduce((a, b) => (a > b ? a : b));
    this.#complete = { start: { ...start, drawn }, snapshot };
    this.#pass = null;
  }
}
