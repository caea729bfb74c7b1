/**
 * The connections that showed that an input can be made of its settings. They are kept for a moment: as a rule handle() follows at once, and its
 * node would make the same connections again.
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
    this.#timer = setTimeout(letGo, MOMENT);
  }

  /** Hands them over, once; null when they are gone. */
  take(): Connections | null {
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
