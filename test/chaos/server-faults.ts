/** What befalls the server of a run. The server goes down for one reason at a time, and one past at a time is kept to go back to. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Server } from '../support/server.ts';
import { type Past, backupOf, standbyOf } from './pasts.ts';

/**
 * The server went back to an earlier state. A crash loses the commits that were not flushed, a failover those that the standby had not
 * received, a restored backup all since it was made.
 */
export interface Rewind {
  readonly kind: 'crash' | 'failover' | 'restore';
  /** The server was down in between. Milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
}

export interface ServerFaultsOptions {
  readonly server: Server;
  /** Whether the application commits with `synchronous_commit = off`, so that a crash loses commits. */
  readonly commitsLazily: boolean;
  /** Notes that something befalls all nodes; the function that is returned notes its end. */
  readonly everybody: (kind: string) => () => void;
  /** Called while the server is down: it will come up in an earlier state. */
  readonly rewound: () => void;
  /** Called after it has come up in an earlier state: ends the prepared transactions, which nobody may know any more. */
  readonly settle: () => Promise<void>;
}

export class ServerFaults {
  readonly rewinds: Rewind[] = [];
  /** Why the server did not come up again. */
  failure: unknown;
  readonly #options: ServerFaultsOptions;
  #down: Promise<void> | null = null;
  #isGoingBack = false;

  constructor(options: ServerFaultsOptions) {
    this.#options = options;
  }

  restart(mode: 'fast' | 'immediate' | 'kill', pause: number): Promise<void> {
    const { server, commitsLazily } = this.#options;
    return this.#bringDown(`restart ${mode}`, mode !== 'fast' && commitsLazily ? 'crash' : null, async () => {
      await (mode === 'kill' ? server.kill() : server.stop(mode));
      await delay(pause);
    });
  }

  /** Makes a standby or a backup, lets it follow for `follow` milliseconds if it can, and goes back to it after `lag` more. */
  async goBack(kind: 'failover' | 'restore', follow: number, lag: number): Promise<void> {
    if (this.#isGoingBack) return;
    this.#isGoingBack = true;
    try {
      await this.#down;
      const { server } = this.#options;
      await using past: Past = await (kind === 'failover' ? standbyOf : backupOf)(server);
      await delay(follow);
      await past.freeze();
      await delay(lag);
      await this.#down;
      await this.#bringDown(kind, kind, () => past.replace());
    } finally {
      this.#isGoingBack = false;
    }
  }

  #bringDown(what: string, rewind: Rewind['kind'] | null, act: () => Promise<void>): Promise<void> {
    this.#down ??= this.#whileDown(what, rewind, act).finally(() => (this.#down = null));
    return this.#down;
  }

  async #whileDown(what: string, rewind: Rewind['kind'] | null, act: () => Promise<void>): Promise<void> {
    const { server, everybody, rewound, settle } = this.#options;
    const healed = everybody(what);
    const from = Date.now();
    try {
      await act();
      if (rewind) rewound();
    } finally {
      await server.start().catch((error: unknown) => (this.failure = error));
    }
    if (rewind) this.rewinds.push({ kind: rewind, from, to: Date.now() });
    healed();
    if (rewind) await settle().catch(() => {});
  }
}
