/**
 * One life of a node: it connects, installs, and is a standby or the holder of the lease until it is told to stop or
 * something fails. Afterwards nothing of it is left; another life may begin.
 *
 *   connect -> install -> standby <-> active -> end
 *
 * It has two connections, the control session and the listener. The loss of either ends the life. What the active
 * node owns, the change log's cursor, the acknowledgements and the reader, lives as long as its term: a new term reads the log from
 * its beginning.
 *
 * A term ends gracefully when it can: no more is handed out, what the consumer has in hand gets the time of a lease
 * to be acknowledged, then the lease is released, which wakes the standbys.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import { Acknowledgements } from '../capture/acknowledgements.ts';
import { ChangeLog } from '../capture/change-log.ts';
import { Reader } from '../capture/reader.ts';
import type { Settings } from '../config/settings.ts';
import type { EventQueue } from '../delivery/event-queue.ts';
import type { Listener } from '../postgres/listener.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { decodeNodeMessage } from '../schema/node-channel.ts';
import { connect } from './connect.ts';
import { Discovery } from './discovery.ts';
import { Lease } from './lease.ts';

export class Replica {
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #queue: EventQueue;
  readonly #notify: Notify;
  readonly #session: Session;
  readonly #listener: Listener;
  readonly #lease: Lease;
  readonly #discovery: Discovery;
  /** Aborts when the life has to end: asked to, or failed. */
  readonly #ending = new AbortController();
  #failure: { readonly error: unknown } | null = null;
  #reader: Reader | null = null;
  #acknowledgements: Acknowledgements | null = null;

  private constructor(
    settings: Settings,
    names: Names,
    queue: EventQueue,
    notify: Notify,
    session: Session,
    listener: Listener,
  ) {
    this.#settings = settings;
    this.#names = names;
    this.#queue = queue;
    this.#notify = notify;
    this.#session = session;
    this.#listener = listener;
    this.#lease = new Lease(session, names, settings.lease);
    this.#discovery = new Discovery(settings, names, notify);
    session.onLost = (error) => this.#fail(error);
    listener.onLost = (error) => this.#fail(error);
    listener.onNotification = (channel, payload) => this.#receive(channel, payload);
  }

  /** @throws {PostgresInputError} ERR_CONNECT */
  static async connect(
    settings: Settings,
    names: Names,
    queue: EventQueue,
    notify: Notify,
  ): Promise<Replica> {
    const { session, listener } = await connect(settings, names);
    return new Replica(settings, names, queue, notify, session, listener);
  }

  /** Whether events may be handed out at this moment. */
  get isTrusted(): boolean {
    return this.#lease.trusted;
  }

  /** Those of the present term; null for a standby. */
  get acknowledgements(): Acknowledgements | null {
    return this.#acknowledgements;
  }

  get token(): string | null {
    return this.#lease.token;
  }

  /**
   * Lives until `stop` aborts.
   * @throws {PostgresInputError} for what ended the life otherwise
   */
  async run(stop: AbortSignal): Promise<void> {
    const end = () => this.#ending.abort();
    stop.addEventListener('abort', end, { once: true });
    if (stop.aborted) end();
    try {
      await this.#discovery.join(this.#session, this.#ending.signal);
      const secret = await this.#readSecret();
      while (!this.#ending.signal.aborted) {
        this.#notify('standby');
        if (await this.#lease.standBy(this.#ending.signal)) await this.#serveTerm(secret);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      stop.removeEventListener('abort', end);
      await Promise.all([this.#listener.close(), this.#session.close()]);
    }
    if (this.#failure) throw this.#failure.error;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#ending.abort();
  }

  async #readSecret(): Promise<Buffer> {
    const [row] = await this.#session.query<{ key: Buffer }>(
      `SELECT key FROM ${this.#names.secretTable.sql}`,
    );
    if (row) return row.key;
    throw new PostgresInputError(
      'ERR_INSTALL',
      `${this.#names.secretTable.sql} is empty: somebody removed its row; uninstall and install again`,
    );
  }

  /** From the claim of the lease to its end. */
  async #serveTerm(secret: Buffer): Promise<void> {
    const term = new AbortController();
    const ending = AbortSignal.any([this.#ending.signal, term.signal]);
    const { renewInterval } = this.#settings.lease;
    const fail = (error: unknown) => this.#fail(error);
    const acknowledgements = new Acknowledgements(this.#session, this.#names, this.#lease, fail);
    this.#acknowledgements = acknowledgements;
    this.#reader = new Reader({
      session: this.#session,
      log: new ChangeLog(this.#session, this.#names),
      queue: this.#queue,
      names: this.#names,
      secret,
      foreignNotifications: this.#settings.foreignNotifications,
      markerTimeout: 2 * renewInterval,
      notify: this.#notify,
      fail,
    });
    this.#notify('active', { fencingToken: this.#lease.token! });

    const guarded = (task: Promise<void>) => task.catch(fail);
    const renewed = () => this.#queue.serve();
    const holding = guarded(this.#lease.hold(term.signal, renewed)).then(() => term.abort());
    const watching = guarded(this.#discovery.watch(this.#session, ending));
    await guarded(this.#reader.run(ending));

    this.#reader = null;
    if (!term.signal.aborted && !this.#session.isLost) {
      await guarded(this.#finish(acknowledgements, term.signal));
    }
    term.abort();
    await holding;
    this.#acknowledgements = null;
    this.#queue.clear();
    await guarded(this.#lease.release());
    // Last: installing may be under way, and is nothing to wait for with the lease.
    await watching;
  }

  /** Gives the consumer time for what it has in hand, and for transactions of its own. */
  async #finish(acknowledgements: Acknowledgements, term: AbortSignal): Promise<void> {
    const { duration } = this.#settings.lease;
    const began = performance.now();
    this.#queue.pause();
    await this.#queue.settled(duration, term);
    if (!this.#queue.isDropped)
      await acknowledgements.callersEnded(began + duration - performance.now(), term);
    // Last: what a caller's transaction has rolled back can be acknowledged now.
    await acknowledgements.flush();
  }

  #receive(channel: string, payload: string): void {
    if (channel === this.#names.channel) {
      this.#reader?.onPayload(payload);
      return;
    }
    const message = decodeNodeMessage(payload);
    if (message.kind === 'released') this.#lease.noticeRelease();
    else this.#reader?.onMarker(message.marker);
  }
}
