/**
 * The connections that showed that an input can be made of its settings. They are kept for a moment: as a rule handle() follows at once, and its
 * node would make the same connections again. Meanwhile they do not keep the process alive.
 */
import type { Connections } from './connect.ts';

/** How long they are kept, in milliseconds. */
const MOMENT = 1000;

export class FirstConnections {
  #connections: Connections | null;
  readonly #timer: NodeJS.Timeout;

  constructor(connections: Connections) {
    this.#connections = connections;
    const letGo = () => void this.close();
    connections.session.onLost = letGo;
    connections.listener.onLost = letGo;
    this.#timer = setTimeout(letGo, MOMENT).unref();
    this.#keepProcess(false);
  }

  #keepProcess(isKept: boolean): void {
    this.#connections?.session.keepProcess(isKept);
    this.#connections?.listener.keepProcess(isKept);
  }

  /** Hands them over, once; null when they are gone. */
  take(): Connections | null {
    this.#keepProcess(true);
    const connections = this.#connections;
    this.#connections = null;
    clearTimeout(this.#timer);
    return connections;
  }

  /** Hangs up, unless they were taken. Never rejects. */
  async close(): Promise<void> {
    const connections = this.take();
    if (connections) await Promise.all([connections.listener.close(), connections.session.close()]);
  }
}
