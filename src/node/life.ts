/**
 * One life of a node: it connects, installs, and is a standby or the holder of the lease until it is ended or something fails.
 * Afterwards nothing of it is left; another life may begin.
 *
 *   connect -> install -> standby <-> active (a term) -> end
 *
 * A life has two connections, the control session and the listener; one that polls has no listener. The loss of either ends the life. If the session is
 * lost, the term is lost too. After every other failure the term ends gracefully, and the released lease wakes a standby.
 */
import type { Notify } from '../api/lifecycle-events.ts';
import { readSignature } from '../capture/capture.ts';
import type { Settings } from '../config/settings.ts';
import type { Consumer } from '../delivery/consumer.ts';
import type { TermDelivery } from '../delivery/term-delivery.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { decodeNodeMessage } from '../schema/node-channel.ts';
import { type Connections, connect } from './connect.ts';
import { Discovery } from './discovery.ts';
import type { NodeLife } from './engine.ts';
import type { FirstConnections } from './first-connections.ts';
import { Lease } from './lease.ts';
import { type Ending, Term, harsher } from './term.ts';

export class Life implements NodeLife {
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #consumer: Consumer;
  readonly #notify: Notify;
  readonly #session: Session;
  readonly #listener: Connections['listener'];
  readonly #lease: Lease;
  readonly #discovery: Discovery;
  /** Aborts with the first ending: no more installing, no more waiting for the lease. */
  readonly #living = new AbortController();
  #ending: Ending | null = null;
  #failure: { readonly error: unknown } | null = null;
  #term: Term | null = null;

  private constructor(
    settings: Settings,
    names: Names,
    consumer: Consumer,
    notify: Notify,
    session: Session,
    listener: Connections['listener'],
  ) {
    this.#settings = settings;
    this.#names = names;
    this.#consumer = consumer;
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
    consumer: Consumer,
    notify: Notify,
    first: FirstConnections | null,
  ): Promise<Life> {
    const { session, listener } = first?.take() ?? (await connect(settings, names));
    return new Life(settings, names, consumer, notify, session, listener);
  }

  get delivery(): TermDelivery | null {
    return this.#term?.delivery ?? null;
  }

  /**
   * `planner`: whether it may install the input where nothing of it is there.
   * @throws {PostgresInputError} for what ended the life, unless that was a call of `end`
   */
  async run(planner: 'joining' | 'rejoining'): Promise<void> {
    try {
      if (this.#session.isPooled) this.#notify('polling');
      await this.#discovery.join(this.#session, planner, this.#living.signal);
      while (!this.#living.signal.aborted) {
        this.#notify('standby');
        if (await this.#lease.standBy(this.#living.signal)) await this.#serveTerm();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      await Promise.all([this.#listener.close(), this.#session.close()]);
    }
    if (this.#failure) throw this.#failure.error;
  }

  /** Ends the life, and the term, if there is one, in this way. */
  end(how: Ending): void {
    this.#ending = harsher(this.#ending, how);
    this.#living.abort();
    this.#term?.end(this.#ending);
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.end(this.#session.isLost ? 'lost' : 'graceful');
  }

  async #serveTerm(): Promise<void> {
    // A term's signature is read when the lease is held: a standby may have seen another installation before.
    const signature = await readSignature(this.#session, this.#names);
    const term = new Term({
      settings: this.#settings,
      names: this.#names,
      session: this.#session,
      lease: this.#lease,
      discovery: this.#discovery,
      consumer: this.#consumer,
      signature,
      notify: this.#notify,
      fail: (error) => this.#fail(error),
    });
    this.#term = term;
    // The end may have come while the lease was being claimed.
    if (this.#ending) term.end(this.#ending);
    this.#notify('active', { fencingToken: term.delivery.token });
    await term.serve();
    this.#term = null;
  }

  #receive(channel: string, payload: string): void {
    if (channel === this.#names.channel) {
      this.#term?.onNotification(payload);
      return;
    }
    const message = decodeNodeMessage(payload);
    if (message.kind === 'released') this.#lease.noticeRelease();
    else if (message.kind === 'redriven') this.#term?.onRedriven();
    else if (message.kind === 'backfill') this.#term?.onBackfill();
    else this.#term?.onMarker(message.marker);
  }
}
