/** What a user may choose. */

/** How the nodes agree on which of them is active. */
export interface LeaseSettings {
  /** For how long a claim is good without renewal, in milliseconds. Default: 5000. */
  duration: number;
  /** How often the holder renews, in milliseconds. Default: 1000. */
  renewInterval: number;
  /** How long before the end the holder stops trusting its lease, in milliseconds. Default: 1000. */
  margin: number;
  /** How often a standby looks whether the holder has died, in milliseconds. Default: 250. */
  pollInterval: number;
}

/** What may be chosen beyond the config that all inputs share. Every one is optional. */
export interface PostgresInputOptions {
  /**
   * How long connecting may take, in milliseconds. Default: `connect_timeout` of the connection string if it has one
   * (that is in seconds), else 500.
   */
  connectTimeout?: number;
  /** The schemas whose tables are watched. Default: `['public']`. */
  schemas?: string[];
  /**
   * Which tables of those schemas are watched: names or globs, `table` or `schema.table`. Default: all. A table that
   * both lists match is not watched; an empty `include` stands for all tables.
   */
  tables?: { include?: string[]; exclude?: string[] };
  /** The schema for this package's own tables and functions. Default: `'postgres_input'`. */
  internalSchema?: string;
  /** Whether to install what is missing. Default: `true`; `false` if a DBA has run what `plan` prints. */
  install?: boolean;
  /** How often to look for new tables, in milliseconds. Default: 5000. */
  discoveryInterval?: number;
  /** For how long installation may wait for a lock, in milliseconds, before it lets go and retries. Default: 100. */
  lockTimeout?: number;
  /** How the nodes agree on which of them is active. */
  lease?: Partial<LeaseSettings>;
  /** How many events may be handed out and not yet acknowledged, with `ack: 'manual'`. Default: 1000. */
  maxInFlight?: number;
  /**
   * What to do with notifications that our triggers did not send. Default: `'accept'`, valid ones become events and
   * garbage throws `ERR_PAYLOAD_INVALID`; `'ignore'`: they are skipped, and counted in `status()`.
   */
  foreignNotifications?: 'accept' | 'ignore';
}

/** How `handle` hands events out. */
export interface HandleOptions {
  /** Ends the iteration: it rejects with the signal's reason, after the lease is released. */
  signal?: AbortSignal;
  /**
   * `'auto'`: asking for the next event acknowledges the one before. `'manual'`: each is acknowledged by `ack`, in any
   * order. Default: `'auto'`.
   */
  ack?: 'auto' | 'manual';
  /**
   * Whether to rejoin as a standby, for ever, after an error that is retryable, with growing, jittered delays of at
   * least `minDelay` and at most `maxDelay` milliseconds. Default: `false`; `true` stands for 100 and 10000.
   */
  reconnect?: boolean | { minDelay?: number; maxDelay?: number };
}
