/**
 * A snapshot of PostgreSQL's, as pg_current_snapshot() prints it: `xmin:xmax:xip,...`
 * (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS).
 */
export class Snapshot {
  readonly text: string;
  readonly #xmin: bigint;
  /** Above every transaction that had ended. Whoever is not below it may have been under way. */
  readonly xmax: bigint;
  /** The transactions below `xmax` that were under way. */
  readonly inProgress: ReadonlySet<string>;

  constructor(text: string) {
    const [xmin, xmax, list] = text.split(':');
    this.text = text;
    this.#xmin = BigInt(xmin!);
    this.xmax = BigInt(xmax!);
    this.inProgress = new Set(list ? list.split(',') : []);
  }

  /** Whether what this transaction wrote, if it committed, was to be seen. */
  sees(xid: bigint): boolean {
    return xid < this.#xmin || (xid < this.xmax && !this.inProgress.has(String(xid)));
  }
}
