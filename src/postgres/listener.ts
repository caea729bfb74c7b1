/**
 * Receives notifications. This is the only file that knows pg-listen.
 *
 * - Trusted: nothing. A notification only saves time, since the log has every change.
 * - Deaf: the connection is asked for a sign of life every `heartbeat` and has to answer before the next one is due.
 *   A listener that fails to is lost. The sign is LISTEN or UNLISTEN on a channel for nothing else: pg-listen's own is a query that calls a
 *   function, and the role's search_path may find another schema's function of that name.
 * - Lost: `onLost` is called, once, and the node's life ends, as it does when the session is lost. pg-listen would
 *   reconnect by itself and not know which notifications it has missed, so it is kept from trying.
 */
import { Socket } from 'node:net';
import type pg from 'pg';
import * as pgListen from 'pg-listen';
import type { PostgresInputError } from '../api/errors.ts';
import { connectionLost } from './session.ts';

// Node's default import of a CommonJS module is all of its exports.
const createSubscriber = pgListen.default.default;

const SIGN_OF_LIFE = 'dapper-postgres-input: sign of life';

export interface ListenerOptions {
  readonly applicationName: string;
  /** The limit for connecting and for listening to all channels; milliseconds. */
  readonly connectTimeout: number;
  /** The time between two signs of life; milliseconds. */
  readonly heartbeat: number;
}

export class Listener {
  readonly #subscriber: ReturnType<typeof createSubscriber>;
  readonly #socket = new Socket();
  #closed = false;
  #heartbeat: NodeJS.Timeout | undefined;
  onNotification: (channel: string, payload: string) => void = () => {};
  /** Called once, when the connection is lost before `close`. */
  onLost: (error: PostgresInputError) => void = () => {};

  private constructor(endpoint: pg.ClientConfig, options: ListenerOptions) {
    const config = {
      ...endpoint,
      application_name: endpoint.application_name ?? options.applicationName,
      connectionTimeoutMillis: options.connectTimeout,
      query_timeout: 0.9 * options.heartbeat,
      stream: () => this.#socket,
    };
    this.#subscriber = createSubscriber(config, {
      parse: (payload: string) => payload,
      paranoidChecking: false,
      retryLimit: 1,
    });
    const { events, notifications } = this.#subscriber;
    events.on('notification', ({ channel, payload }) => {
      if (channel !== SIGN_OF_LIFE) this.onNotification(channel, payload ?? '');
    });
    events.on('error', (error) => this.#lose(error));
    // pg-listen also emits under the channel's name, and `error` is a possible one.
    notifications.on('error', () => {});
  }

  static async connect(
    endpoint: pg.ClientConfig,
    channels: readonly string[],
    options: ListenerOptions,
  ): Promise<Listener> {
    const listener = new Listener(endpoint, options);
    const timer = setTimeout(() => listener.#socket.destroy(), options.connectTimeout);
    try {
      await listener.#subscriber.connect();
      for (const channel of channels) await listener.#subscriber.listenTo(channel);
      listener.#heartbeat = setInterval(() => void listener.#giveSignOfLife(), options.heartbeat);
      return listener;
    } catch (error) {
      await listener.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #giveSignOfLife(): Promise<void> {
    const subscriber = this.#subscriber;
    const isListening = subscriber.getSubscribedChannels().includes(SIGN_OF_LIFE);
    try {
      await (isListening ? subscriber.unlisten(SIGN_OF_LIFE) : subscriber.listenTo(SIGN_OF_LIFE));
    } catch (error) {
      this.#lose(error as Error);
    }
  }

  #lose(error: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#heartbeat);
    this.#socket.destroy();
    this.onLost(connectionLost(error));
  }

  /** Whether the process stays alive for this connection, as it does from the beginning. */
  keepProcess(isKept: boolean): void {
    const turn = isKept ? 'ref' : 'unref';
    this.#socket[turn]();
    this.#heartbeat?.[turn]();
  }

  /** Hangs up. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#heartbeat);
    const hungUp = new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once('close', () => resolve());
    });
    // close() says goodbye. A server that is gone never answers.
    const timer = setTimeout(() => this.#socket.destroy(), 100);
    void this.#subscriber.close().catch(() => {});
    await hungUp;
    clearTimeout(timer);
  }
}
