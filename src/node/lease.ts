/**
 * The lease: it decides which of the nodes is the active one.
 *
 *   standby --claim--> holder --lost, or released--> standby
 *
 * The lease is a row of the lock table. The row has a holder, a token that every claim raises (the fencing token), and a time of
 * expiry. The database's clock writes that time and judges it. The holder renews the lease every `renewInterval`, by (holder,
 * token).
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
 *   its next renewal; until then it can acknowledge nothing.
 * - The holder fell silent (frozen, cut off): a standby wakes up at the expiry and claims.
 *
 * A claim names the token that the standby observed, so that only one of many claims succeeds.
 */
import { randomUUID } from 'node:crypto';
import { PostgresInputError } from '../api/errors.ts';
import type { LeaseSettings } from '../api/options.ts';
import type { Session } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { isQueueFull } from '../postgres/sqlstates.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { NewerVersionError, VERSION } from '../schema/migrations.ts';
import { LEASE_RESOURCE, type Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import { type LeaseSql, leaseSql } from './lease-sql.ts';

interface Observation {
  token: string;
  expired: boolean;
  dead: boolean;
  remaining: number;
  version: number;
}

export class Lease {
  readonly holder: string = randomUUID();
  readonly #session: Session;
  readonly #names: Names;
  readonly #sql: LeaseSql;
  readonly #times: Readonly<LeaseSettings>;
  readonly #released = new Wakeup();
  #token: string | null = null;
  #renewed = now();

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
      const seen = await this.#observe();
      if ((seen.expired || seen.dead) && (await this.#claim(seen))) return true;
      const poll = this.#times.pollInterval * (0.8 + 0.4 * Math.random());
      const untilExpiry = seen.remaining > 0 ? seen.remaining + 1 : Infinity;
      await this.#released.wait(Math.min(poll, untilExpiry), signal);
    }
    return false;
  }

  /**
   * Renews the lease until it is lost, or `signal` aborts. `renewed` gets the share of the server's notification queue that is in use, which
   * every renewal asks for.
   */
  async hold(signal: AbortSignal, renewed: (queueUsage: number) => void = () => {}): Promise<void> {
    for (;;) {
      await sleep(this.#times.renewInterval, signal);
      if (signal.aborted || !this.trusted) return;
      const queueUsage = await this.#renew();
      if (queueUsage === null) return;
      renewed(queueUsage);
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
      this.#session.query(this.#sql.release, [this.holder, token, this.#names.nodeChannel, message]);
    try {
      await release(encodeNodeMessage({ kind: 'released' }));
    } catch (error) {
      if (!isQueueFull(error)) throw error;
      await release(null);
    }
  }

  async #observe(): Promise<Observation> {
    const [row] = await this.#session.query<Observation>(this.#sql.observe);
    if (row && row.version > VERSION) throw new NewerVersionError(this.#names.id, row.version);
    if (row) return row;
    throw new PostgresInputError(
      'ERR_INSTALL',
      `the row resource = ${LEASE_RESOURCE} is missing in ${this.#names.lockTable.sql}: somebody removed it; uninstall and install again`,
    );
  }

  async #claim({ token, dead }: Observation): Promise<boolean> {
    const attempt = now();
    const { duration } = this.#times;
    const [claimed] = await this.#session.query<{ token: string }>(this.#sql.claim, [
      this.holder,
      token,
      duration,
      dead,
    ]);
    if (!claimed) return false;
    this.#token = claimed.token;
    this.#renewed = attempt;
    return true;
  }

  /** Returns the usage of the notification queue; null if the lease is lost, or can't be trusted any more. */
  async #renew(): Promise<number | null> {
    const attempt = now();
    const { duration } = this.#times;
    const [renewed] = await this.#session.query<{ queueUsage: number }>(this.#sql.renew, [
      this.holder,
      this.#token,
      duration,
    ]);
    if (!renewed) {
      this.#token = null;
      return null;
    }
    this.#renewed = attempt;
    return this.trusted ? renewed.queueUsage : null;
  }
}

function now() {
  return { monotonic: performance.now(), wall: Date.now() };
}
