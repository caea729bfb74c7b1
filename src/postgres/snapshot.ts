/**
 * A snapshot as pg_current_snapshot() prints it: `xmin:xmax:xip,...`
 * (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS).
 */
export class Snapshot {
  readonly text: string;
  readonly #xmin: bigint;
  /** Higher than every transaction that had ended. A transaction that is not below may have been in progress. */
  readonly xmax: bigint;
  /** The transactions below `xmax` that were in progress. */
  readonly inProgress: ReadonlySet<string>;

  constructor(text: string) {
    const [xmin, xmax, list] = text.split(':');
    this.text = text;
    this.#xmin = BigInt(xmin!);
    this.xmax = BigInt(xmax!);
    this.inProgress = new Set(list ? list.split(',') : []);
  }

  /** Whether the snapshot shows the rows of this transaction, provided that the transaction committed. */
  sees(xid: bigint): boolean {
    return xid < this.#xmin || (xid < this.xmax && !this.inProgress.has(String(xid)));
  }
}
