/** What somebody should know of an installation although the node can work with it. Each is there only if there is something to tell. */
export interface Remarks {
  /** The publications FOR ALL TABLES: they publish the internal tables too, the secret of the notifications among them. */
  readonly publishedBy?: readonly string[];
  /** Patterns of the option `tables` that match no table of the schemas. */
  readonly unmatched?: readonly UnmatchedPattern[];
}

export interface UnmatchedPattern {
  readonly option: 'include' | 'exclude';
  readonly pattern: string;
}

/** What an installation came to. */
export interface Installation extends Remarks {
  /** Locations of the tables that are watched. */
  readonly watched: readonly string[];
  /** Tables that the role in use may not watch, or that could not be brought into the wanted state. */
  readonly unwatchable: readonly UnwatchableTable[];
  /** Tables whose lock could not be had yet: they come at the next discovery. */
  readonly pending: readonly string[];
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
