/**
 * Receives notifications. This is the only file that knows pg-listen.
 *
 * - Trusted: nothing. A notification only saves time, since the log has every change.
 * - Deaf: the connection is asked for a sign of life every `heartbeat` and has to answer before the next one is due.
 *   A listener that fails to is lost.
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
      paranoidChecking: options.heartbeat,
      retryLimit: 1,
    });
    const { events, notifications } = this.#subscriber;
    events.on('notification', ({ channel, payload }) => this.onNotification(channel, payload ?? ''));
    events.on('error', (error) => {
      if (this.#closed) return;
      this.#closed = true;
      this.#socket.destroy();
      this.onLost(connectionLost(error));
    });
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
      return listener;
    } catch (error) {
      await listener.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Hangs up. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
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
