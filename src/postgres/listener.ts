/**
 * Receives notifications: the only file that knows pg-listen.
 *
 * A notification is a matter of latency alone: what is not received is read from the log. But a listener that has
 * gone deaf must be found out, so its connection is asked for a sign of life every `heartbeat`, and has to give it
 * before the next is due. pg-listen would reconnect and subscribe anew by itself, blind to what was missed meanwhile; here it
 * is kept from trying, and the loss of its connection ends the node's life, as the loss of the other one does.
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
  /** For connecting, until all channels are listened to; milliseconds. */
  readonly connectTimeout: number;
  /** Between two signs of life; milliseconds. */
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
    // end() says goodbye; a server that is gone never answers.
    const timer = setTimeout(() => this.#socket.destroy(), 100);
    void this.#subscriber.close().catch(() => {});
    await hungUp;
    clearTimeout(timer);
  }
}
