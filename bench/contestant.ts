/** What every contestant implements: how it gets to know of changes of table `item`, and delivers them. */
export interface Contestant {
  readonly name: string;
  /** How it gets to know of changes. */
  readonly by: 'nothing' | 'notify' | 'trigger and table' | 'replication slot';
  /** Prepares the database; undone by dropping it, except for what `cleanUp` undoes. */
  install(url: string): Promise<void>;
  /** Delivers each change by its id, when its handler has ended if there are handlers. Resolves when it is listening. */
  consume(url: string, deliver: (id: string | number) => void, handlers?: Handlers): Promise<Consumption>;
  /** Whether, as the database sees it, nothing is left to be delivered or acknowledged. */
  isAcknowledged?(url: string): Promise<boolean>;
  /** Undoes what does not go with the database. */
  cleanUp?(url: string): Promise<void>;
  /** Keeps what is written while nobody listens. */
  readonly durable: boolean;
}

/** Handlers that take their time. */
export interface Handlers {
  /** How many run at once. */
  readonly concurrency: number;
  /** Milliseconds. */
  readonly handlerTime: number;
}

export interface Consumption {
  stop(): Promise<void>;
}
