/** What an installation came to. */
export interface Installation {
  /** Locations of the tables that are watched. */
  readonly watched: readonly string[];
  /** Tables that the role in use may not watch, or that could not be brought into the wanted state. */
  readonly unwatchable: readonly UnwatchableTable[];
  /** Tables whose lock could not be had yet: they come at the next discovery. */
  readonly pending: readonly string[];
  /**
   * The publications FOR ALL TABLES, if there are any: they publish the internal tables too, the secret of the notifications among
   * them.
   */
  readonly publishedBy?: readonly string[];
}

export interface UnwatchableTable {
  readonly table: string;
  readonly reason: string;
}

/** An option under which a node installed last, and what this node wants instead. */
export interface OptionDifference {
  readonly option: string;
  readonly installed: unknown;
  readonly wanted: unknown;
}
