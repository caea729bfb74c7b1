/**
 * The rest of a reader that polls: it never sleeps. It has no session that could keep the sleep lock, so that writers never notify, and no
 * listener. Its pauses are short while changes come, and grow to a second.
 */
import { Wakeup } from '../postgres/wakeup.ts';
import type { Rest } from './sleeping.ts';

export class Polling implements Rest {
  readonly longestPause = 1000;
  readonly #attention = new Wakeup();

  pause(ms: number, signal: AbortSignal): Promise<void> {
    return this.#attention.wait(ms, signal);
  }

  async sleep(): Promise<boolean> {
    return false;
  }

  async wakeUp(): Promise<void> {}

  rouse(): void {
    this.#attention.wake();
  }

  onAnnouncement(): void {
    this.#attention.wake();
  }

  onMarker(): void {}

  onQueueUsage(): void {}
}
