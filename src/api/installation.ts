/** What somebody should know of an installation although the node can work with it. Each is there only if there is something to tell. */
export interface Remarks {
  /** The publications FOR ALL TABLES: they publish the internal tables too, the secret of the notifications among them. */
  readonly publishedBy?: readonly string[];
  /** Patterns of the option `tables` that match no table of the schemas. */
  readonly unmatched?: readonly UnmatchedPattern[];
}

/** A pattern of the option `tables` that matches no table of the schemas: a typing error, or a table that is not there yet. */
export interface UnmatchedPattern {
  /** The list in which the pattern stands. */
  readonly option: 'include' | 'exclude';
  /** The pattern as it was given. */
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

/** A table that is not watched although it was asked for. */
export interface UnwatchableTable {
  /** The table's location. */
  readonly table: string;
  /** Why the table is not watched, and what to do. */
  readonly reason: string;
}

/** An option under which a node installed last, and what this node wants instead. */
export interface OptionDifference {
  /** The option's name. */
  readonly option: string;
  /** The value under which another node installed. */
  readonly installed: unknown;
  /** The value that this node was given. */
  readonly wanted: unknown;
}
