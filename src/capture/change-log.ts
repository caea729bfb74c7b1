/**
 * What is read from the change log.
 *
 * Rows come in transactions that commit in any order, so that a sequence says nothing about what is still to come: a
 * row may appear below one that was read long ago. What has been read is therefore told by a snapshot, not by a
 * high-water mark. The log is read in passes:
 *
 *   pass n reads, in pages and in the order of the sequences, what snapshot n sees and snapshot n-1 did not.
 *
 * - Nothing is missed: what snapshot n-1 did not see, a later one will.
 * - Nothing comes twice: each transaction is new to one pass only.
 * - A row's changes keep their order: the second of two transactions waits for the first to end, so it draws its
 *   sequences later, and no snapshot sees it without the first.
 * - A transaction that stays open delays nobody else's changes.
 *
 * A row that is packed holds many changes, with one xid and with the sequences after its own. When it is unpacked, its
 * changes keep all that, so that to a pass it makes no difference: a page ends with a row, and the next goes on after the
 * last of its changes.
 *
 * Where a pass begins: above all sequences that had been drawn when the pass before began, except for transactions that
 * were under way then and have ended since. It steps over what is acknowledged and not yet vacuumed only for these,
 * and no further back than they began. Which ones were under way: those that the snapshot lists, and those that it
 * cannot list, because they are younger than every transaction that had ended (a snapshot ends there, at its xmax,
 * and not at the next xid). Each pass therefore draws an xid itself: whoever is younger than this one began later.
 *
 * Where it ends: at the highest sequence that was drawn when it began. In between there may be millions that are
 * acknowledged and not vacuumed, since somebody holds an old snapshot. A statement that has stepped over them for some
 * time says how far it came, and the next goes on from there, so that the lease is renewed meanwhile.
 */
import type { Session } from '../postgres/session.ts';
import { Snapshot } from '../postgres/snapshot.ts';
import { type LogRow, Unpacker } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type ChangeLogSql, changeLogSql, isMilestone, passOf } from './change-log-sql.ts';
import { type Change, changeOf } from './change.ts';

/** Of a moment: all sequences drawn before are up to `drawn`, and whoever began after it has an xid above `xid`. */
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

function begin(first: LogRow): Pass {
  const { snapshot, drawn, xid } = passOf(first);
  return { start: startOf(drawn, xid), snapshot: new Snapshot(snapshot), after: '0' };
}

export interface Page {
  readonly changes: Change[];
  /** Whether the pass ends with this page: all that was committed before it began has been read. */
  readonly last: boolean;
}

export class ChangeLog {
  readonly #session: Session;
  readonly #sql: ChangeLogSql;
  readonly #patience: number;

  /** The last pass that is complete; before the first one, only when that was. */
  #complete: { readonly start: Start; readonly snapshot: Snapshot | null } | null = null;
  /** The pass under way. */
  #pass: Pass | null = null;
  /** The transactions that the last complete pass's snapshot lists as under way: their sequences are above this. */
  #late: ReadonlyMap<string, bigint> = new Map();
  /** The same for those that it could not list. */
  #unlistedAfter = 0n;

  /** How many changes a row of the last page held, on average. */
  #perRow = 1;
  readonly #unpacker = new Unpacker(changeOf);

  /** `patience`: for how long a page's statement may look for changes before it tells how far it came, in milliseconds. */
  constructor(session: Session, names: Names, patience = session.timeout / 4) {
    this.#session = session;
    this.#patience = patience;
    this.#sql = changeLogSql(names);
  }

  /** Whether a transaction's changes have been read, all of them, by a complete pass. */
  covers(xid: bigint): boolean {
    return this.#complete?.snapshot?.sees(xid) ?? false;
  }

  /** The next page: of the pass under way, else of a new one. It ends with the row of the log that holds the last of so many changes. */
  async readPage(wanted: number): Promise<Page> {
    this.#complete ??= { start: await this.#readStart(), snapshot: null };
    const limit = Math.ceil(wanted / this.#perRow);
    let first: LogRow | undefined;
    let rows = 0;
    const changes: Change[] = [];
    let milestone: string | null = null;
    await this.#fetch([wanted, limit], this.#complete.start, this.#complete.snapshot, (row) => {
      if (!first) {
        first = row;
      } else if (isMilestone(row)) {
        milestone ??= row[0];
      } else if (milestone === null) {
        this.#unpacker.unpack(row, changes);
        rows++;
      }
    });
    const pass = this.#pass ?? begin(first!);
    const read = changes.at(-1)?.sequence ?? pass.after;
    // A statement may have come to a packed row, and to no further than where it begins.
    const after = milestone === null || BigInt(read) > BigInt(milestone) ? read : milestone;
    const last = changes.length < wanted && rows < limit && milestone === null;
    if (rows > 0) this.#perRow = changes.length / rows;
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
    previous: Start,
    seen: Snapshot | null,
    onRow: (row: LogRow) => void,
  ): Promise<void> {
    const pass = this.#pass;
    const common = [pass?.snapshot.text ?? null, pass?.start.drawn ?? null, this.#patience, ...limits];
    if (!seen) return this.#session.eachRow(this.#sql.firstPass, [...common, pass?.after ?? '0'], onRow);
    const late = pass ? [] : [...this.#late];
    const someUnlisted = seen.xmax < previous.xid;
    const values = [
      ...common,
      pass?.after ?? (someUnlisted ? this.#unlistedAfter : previous.drawn),
      late.map(([xid]) => xid),
      late.map(([, after]) => after),
      seen.text,
    ];
    return this.#session.eachRow(this.#sql.nextPass, values, onRow);
  }

  #finishPass({ start, snapshot, after: read }: Pass, previous: Start): void {
    // Who was under way when the pass before began is known since then; all others began after it.
    const after = (xid: string) =>
      this.#late.get(xid) ?? (BigInt(xid) < previous.xid ? this.#unlistedAfter : previous.drawn);
    this.#late = new Map([...snapshot.inProgress].map((xid) => [xid, after(xid)]));
    this.#unlistedAfter = previous.drawn;
    // The sequence itself may not be known; what was read of it is.
    const drawn = [start.drawn, previous.drawn, BigInt(read)].reduce((a, b) => (a > b ? a : b));
    this.#complete = { start: { ...start, drawn }, snapshot };
    this.#pass = null;
  }
}
