/**
 * The lease: it decides which of the nodes is the active one.
 *
 *   standby --claim--> holder --lost, or released--> standby
 *
 * The lease is a row of the lock table. The row has a holder, a token that every claim raises (the fencing token), and a time of
 * expiry, which the database's clock writes. The holder renews the lease every `renewInterval`, by (holder, token).
 *
 * The holder trusts that no other node holds the lease until `duration - margin` after the start of its last successful renewal.
 * `trusted` measures this with the node's own clocks and costs nothing. It is asked before every event that is handed out, so
 * that a process that was frozen and thawed hands out nothing more. Of two clocks, the one that advanced more is believed: the
 * monotonic clock stands still while a machine is suspended, and the wall clock can be set back.
 *
 * A renewal that finds another holder, a trust that has run out, and a release end the holding. All three are a normal return.
 *
 * How the lease passes on:
 * - Released: a notification tells the standbys, and all of them try to claim at once.
 * - The holder's session is gone from the server: the next standby that polls claims. The process has died, or it will notice at
 *   its next renewal; until then it can acknowledge nothing. A holder behind a pooler has no session that could be seen to go: it counts as
 *   gone when its lease expires, or when the server has restarted.
 * - The holder fell silent (frozen, cut off): a standby wakes up at the expiry and claims. The database's clock says that the lease has
 *   expired. But that clock may have been set, and every renewal changes the expiry. So the standby measures with its own monotonic
 *   clock for how long it has seen the lease unchanged. It claims an expired lease that missed two renewals, and any lease that
 *   stayed unchanged for its whole duration. So a clock set forward makes no second holder as long as the holder renews, and one set back
 *   delays nothing. If the clock is set forward while the holder is frozen, the holder may hand out events when it is thawed, until its next
 *   renewal fails; it can acknowledge nothing.
 *
 * A claim names the token and the expiry that the standby observed, so that only one of many claims succeeds, and none after a renewal.
 * models/lease.pml is the model of this protocol.
 *
 * Uninstalling removes the lock table. A node that finds the table gone, or finds another installation in its place, ends its
 * life; with `reconnect` it joins again once the input is installed.
 */
import { randomUUID } from 'node:crypto';
import type { LeaseSettings } from '../api/options.ts';
import type { Hold } from '../capture/acknowledgements.ts';
import { channels } from '../observe/channels.ts';
import type { Session } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { isMissing, isQueueFull } from '../postgres/sqlstates.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { NewerVersionError, RemovedError, VERSION } from '../schema/migrations.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import { type LeaseSql, leaseSql } from './lease-sql.ts';

interface Observation {
  token: string;
  holder: string | null;
  expiresAt: string | null;
  expired: boolean;
  dead: boolean;
  remaining: number;
  version: number;
  installation: string | null;
}

export class Lease {
  readonly #holder: string = randomUUID();
  readonly #session: Session;
  readonly #names: Names;
  readonly #sql: LeaseSql;
  readonly #times: Readonly<LeaseSettings>;
  readonly #released = new Wakeup();
  #token: string | null = null;
  /** Whether the holder before released the lease that this node holds. */
  wasReleased = true;
  #renewed = now();
  /** The installation that this node has joined; undefined before its first look. */
  #installation: string | null | undefined;
  /** What was observed last, and since when it has been unchanged. */
  #seen: { readonly token: string; readonly expiresAt: string | null; readonly since: number } | null = null;

  constructor(session: Session, names: Names, times: Readonly<LeaseSettings>) {
    this.#session = session;
    this.#names = names;
    this.#sql = leaseSql(names);
    this.#times = times;
  }

  /** The fencing token; null when the lease is not held. */
  get token(): string | null {
    return this.#token;
  }

  /**
   * The lease as it is held now. It has no token any more once it is lost or released, also when this node has claimed the lease anew: what was
   * acknowledged under it may have been handed out elsewhere since.
   */
  get holding(): Hold {
    const token = this.#token;
    const now = () => this.#token;
    return {
      holder: this.#holder,
      get token() {
        return now() === token ? token : null;
      },
    };
  }

  /** Whether this node may still believe that it is the only holder. */
  get trusted(): boolean {
    if (this.#token === null) return false;
    const { monotonic, wall } = now();
    const elapsed = Math.max(monotonic - this.#renewed.monotonic, wall - this.#renewed.wall);
    return elapsed < this.#times.duration - this.#times.margin;
  }

  /** To be called when another node says that it released the lease. */
  noticeRelease(): void {
    this.#released.wake();
  }

  /** Waits for the lease and claims it. Returns false when `signal` aborts first. */
  async standBy(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      const asked = performance.now();
      const found = await this.#observe();
      const unchanged = this.#unchangedFor(found, asked);
      const left = this.#untilFree(found, unchanged);
      if (left <= 0 && (await this.#claim(found))) {
        this.wasReleased = found.holder === null;
        return true;
      }
      const poll = this.#times.pollInterval * (0.8 + 0.4 * Math.random());
      await this.#released.wait(left > 0 ? Math.min(poll, left) : poll, signal);
    }
    return false;
  }

  /** For how long the lease is known to be unchanged, in milliseconds of this node's own clock, when it was asked for at `asked`. */
  #unchangedFor({ token, expiresAt }: Observation, asked: number): number {
    const isSame = this.#seen?.token === token && this.#seen.expiresAt === expiresAt;
    if (!isSame) this.#seen = { token, expiresAt, since: performance.now() };
    return Math.max(0, asked - this.#seen!.since);
  }

  /** Milliseconds until the lease may be claimed if its holder stays silent; 0 if that is now. */
  #untilFree({ holder, dead, expired, remaining }: Observation, unchanged: number): number {
    if (holder === null || dead) return 0;
    const { duration, renewInterval } = this.#times;
    const missed = 2 * renewInterval - unchanged;
    const byDatabase = expired ? missed : Math.max(missed, remaining);
    return Math.max(0, Math.min(byDatabase, duration - unchanged) + 1);
  }

  /**
   * Renews the lease until it is lost, or `signal` aborts. The statement of every renewal also asks what the holder wants to know so often:
   * `asked` is a select list, and `renewed` gets the answer.
   */
  async hold<Answer extends object>(
    signal: AbortSignal,
    renewed: (answer: Answer) => void = () => {},
    asked = 'token',
  ): Promise<void> {
    for (;;) {
      await sleep(this.#times.renewInterval, signal);
      if (signal.aborted || !this.trusted) return;
      const answer = await this.#renew<Answer>(asked);
      if (answer === null) return;
      renewed(answer);
    }
  }

  /**
   * Gives the lease up and tells the standbys. Does nothing when it is not held. If the server's notification queue is full, nobody is
   * told, and the standbys find the lease free at their next poll.
   */
  async release(): Promise<void> {
    const token = this.#token;
    this.#token = null;
    if (token === null) return;
    const release = (message: string | null) =>
      this.#session.query(this.#sql.release, [this.#holder, token, this.#names.nodeChannel, message]);
    let wasHeld = false;
    try {
      const message = encodeNodeMessage({ kind: 'released' });
      const released = await release(message).catch((error: unknown) => {
        if (!isQueueFull(error)) throw error;
        return release(null);
      });
      wasHeld = released.length > 0;
    } finally {
      this.#publish(wasHeld ? 'released' : 'lost', token);
    }
  }

  #publish(state: 'claimed' | 'released' | 'lost', fencingToken: string): void {
    if (channels.lease.hasSubscribers) channels.lease.publish({ input: this.#names.id, state, fencingToken });
  }

  /** @throws {PostgresInputError} ERR_INSTALL if the installation that this node has joined is gone, or is a newer version's */
  async #observe(): Promise<Observation> {
    const [row] = await this.#session.query<Observation>(this.#sql.observe).catch((error: unknown) => {
      throw isMissing(error) ? new RemovedError(this.#names, error) : error;
    });
    if (!row) throw new RemovedError(this.#names);
    if (row.version > VERSION) throw new NewerVersionError(this.#names.id, row.version);
    this.#installation ??= row.installation;
    if (this.#installation !== row.installation) throw new RemovedError(this.#names);
    return row;
  }

  async #claim({ token, expiresAt }: Observation): Promise<boolean> {
    const attempt = now();
    const { duration } = this.#times;
    const statement = this.#session.isPooled ? this.#sql.claimPooled : this.#sql.claim;
    const [claimed] = await this.#session.query<{ token: string }>(statement, [
      this.#holder,
      token,
      duration,
      expiresAt,
    ]);
    if (!claimed) return false;
    this.#token = claimed.token;
    this.#renewed = attempt;
    this.#publish('claimed', claimed.token);
    return true;
  }

  /** Returns the answer to what was asked; null if the lease is lost, or can't be trusted any more. */
  async #renew<Answer extends object>(asked: string): Promise<Answer | null> {
    const attempt = now();
    const values = [this.#holder, this.#token, this.#times.duration];
    const [answer] = await this.#session.query<Answer>(this.#sql.renew(asked), values);
    if (!answer) {
      if (this.#token !== null) this.#publish('lost', this.#token);
      this.#token = null;
      return null;
    }
    this.#renewed = attempt;
    return this.trusted ? answer : null;
  }
}

function now() {
  return { monotonic: performance.now(), wall: Date.now() };
}
