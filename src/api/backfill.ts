/** What can be asked for and learned of a backfill: the rows that tables hold already, as `read` events. */

/** The options of `backfill`. Every one is optional. */
export interface BackfillOptions {
  /** The tables, by their locations: `orders`, or `crm.notes`. Default: every table that is watched. */
  tables?: string[];
  /** SQL: which rows, over the columns of each table. Default: all. */
  where?: string;
  /** How many rows are read at once at most, from 1 to 2000. Default: as many as about 100 ms can read. */
  chunk?: number;
}

/** How far a backfill is with one table. */
export interface BackfillProgress {
  /** The table's location. */
  table: string;
  /** How many rows have been handed out and acknowledged. */
  done: number;
  /** About how many rows the table has, by the server's statistics. */
  estimated: number;
  /** `waiting`: no row was read yet. `cancelled`: by `cancel()`, or because of `error`. */
  state: 'waiting' | 'running' | 'paused' | 'done' | 'cancelled';
  /** Why the table can't be read, if that has cancelled it; else null. */
  error: string | null;
}

/** A backfill that was asked for. It outlives every process; any node can pause, resume or cancel it. */
export interface Backfill {
  /** Names the backfill on the command line: `backfill --pause`, `--resume` and `--cancel` take this id. */
  readonly id: string;
  /** How far it is, table by table. */
  progress(): Promise<BackfillProgress[]>;
  /** Reads no more, until it is resumed. What was handed out can still be acknowledged. */
  pause(): Promise<void>;
  /** Goes on after `pause()`, where the reading had stopped. */
  resume(): Promise<void>;
  /** Reads no more, for good. */
  cancel(): Promise<void>;
  /**
   * Is fulfilled when all rows are acknowledged, or it was cancelled; rejected with `ERR_INSTALL` if a table could not be read, or if the database
   * no longer has the backfill, as after a failover that lost the request.
   */
  readonly done: Promise<void>;
}
