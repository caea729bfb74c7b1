/**
 * A node's time as the holder of a lease that nobody else wants, over a {@link MemoryStore}. It does what node/term.ts does with a database: it reads
 * the log to the delivery, keeps what the delivery wants kept, fenced by the token, and ends in one of three ways.
 */
import { setImmediate } from 'node:timers/promises';
import type { Notify } from '../api/lifecycle-events.ts';
import { leaseLost } from '../capture/acknowledgements.ts';
import type { Failures } from '../capture/failures.ts';
import type { DroppedChanges } from '../capture/sink.ts';
import type { Store, StoreAcknowledgements } from '../capture/store.ts';
import type { Consumer } from '../delivery/consumer.ts';
import { isInOrder } from '../delivery/row-order.ts';
import { TermDelivery } from '../delivery/term-delivery.ts';
import { type Ending, harsher } from '../node/term.ts';
import { channels } from '../observe/channels.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { type EmittedChange, emittedDecoder } from './emitted-change.ts';
import type { MemoryStore } from './memory-store.ts';

/** How many changes are read at once, as from a log. */
const PAGE = 2000;

export class MemoryTerm implements Store {
  readonly delivery: TermDelivery;
  readonly #store: MemoryStore;
  readonly #token: number;
  readonly #serving = new AbortController();
  readonly #waiting = new AbortController();
  readonly #wakeup = new Wakeup();
  /** What was not brought to the delivery yet. */
  readonly #unread: EmittedChange[];
  #ending: Ending | null = null;

  constructor(store: MemoryStore, consumer: Consumer, notify: Notify, fail: (error: unknown) => void) {
    this.#store = store;
    this.#token = ++store.token;
    this.#publish('claimed');
    // Redriven changes come first, as in a log.
    const changes = [...store.changes];
    this.#unread = [
      ...changes.filter(({ sequence }) => sequence!.startsWith('-')),
      ...changes.filter(({ sequence }) => !sequence!.startsWith('-')),
    ];
    store.onArrival = (change) => {
      this.#unread.push(change);
      this.#wakeup.wake();
    };
    this.delivery = new TermDelivery({
      consumer,
      trigger: store.id,
      fencingToken: String(this.#token),
      clock: store.clock,
      decoder: emittedDecoder,
      store: () => this,
      // The consumer asks whenever something has changed for it.
      mayHandOut: () => {
        store.sign();
        return this.#isHeld;
      },
      notify,
      fail,
    });
  }

  get #isHeld(): boolean {
    return this.#store.token === this.#token;
  }

  #checkHeld(): void {
    if (!this.#isHeld) throw leaseLost();
  }

  /** Whether nothing happens any more unless the clock is advanced, or something arrives. */
  get isQuiet(): boolean {
    const { dropped } = this.delivery.sink;
    return this.#unread.length === 0 && !dropped?.areWanted && this.delivery.isQuiet;
  }

  /** `limit`: for how long it waits at the end for a consumer without a limit of its own; milliseconds. */
  async serve(limit: number): Promise<void> {
    await this.delivery.begin(this.#store.wasReleased);
    this.#store.wasReleased = false;
    await this.#read(this.#serving.signal);
    await this.delivery.drain(limit, this.#waiting.signal);
    if (this.#isHeld) {
      await this.delivery.flush();
      this.#store.wasReleased = true;
    }
    this.#publish(this.#isHeld ? 'released' : 'lost');
    this.end('lost');
  }

  end(how: Ending): void {
    this.#ending = harsher(this.#ending, how);
    this.delivery.stop();
    this.#serving.abort();
    if (this.#ending === 'graceful') return;
    this.delivery.forget();
    this.#waiting.abort();
  }

  #publish(state: 'claimed' | 'released' | 'lost'): void {
    if (channels.lease.hasSubscribers)
      channels.lease.publish({ input: this.#store.id, state, fencingToken: String(this.#token) });
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { sink } = this.delivery;
    while (!signal.aborted) {
      const { dropped } = sink;
      if (this.#unread.length === 0 && !dropped?.areWanted) {
        await this.#wakeup.wait(Infinity, signal);
        continue;
      }
      if (dropped) await dropped.waitForRoomOrWanted(PAGE, signal);
      else await sink.waitForRoom(PAGE, signal);
      if (signal.aborted) return;
      if (dropped?.areWanted) {
        await setImmediate();
        this.#readAgain(dropped);
        if (sink.room < PAGE) continue;
      }
      sink.push(this.#unread.splice(0, PAGE));
    }
  }

  /** A page of what the delivery has dropped and wants now. */
  #readAgain(dropped: DroppedChanges): void {
    const reading = dropped.begin();
    if (!reading) return;
    const unread = new Set(this.#unread);
    const number = ({ sequence }: EmittedChange) => BigInt(sequence!);
    const found = [...this.#store.changes]
      .filter((change) => isInOrder(change) && number(change) >= reading.from && !unread.has(change))
      .toSorted((one, other) => (number(one) < number(other) ? -1 : 1));
    const page = found.slice(0, PAGE);
    reading.take(page, page.length === found.length ? null : number(page.at(-1)!));
  }

  readAgain(): void {
    this.#wakeup.wake();
  }

  numberOf(seq: string): string {
    return this.#store.numberOf(seq);
  }

  readonly backfills: Store['backfills'] = {
    readAgain: (number) => {
      const change = this.#store.get(number);
      if (change) this.#unread.push(change);
      this.#wakeup.wake();
    },
    noteRead: (number) => this.#store.has(number),
    isLeaseHeld: async () => this.#isHeld,
  };

  readonly acknowledgements: StoreAcknowledgements = {
    acknowledge: async (number) => {
      this.#checkHeld();
      this.#store.acknowledge(number);
    },
    acknowledgeSoon: (number) => {
      if (this.#isHeld) this.#store.acknowledge(number);
    },
    pending: new Set(),
    isGone: async (number) => !this.#store.has(number),
    callersEnded: async () => {},
    flush: async () => this.#checkHeld(),
  };

  readonly failures: Failures = {
    load: async () => this.#store.loadFailures(),
    fail: async (change, failure) => {
      this.#checkHeld();
      this.#store.noteFailure(change, failure);
    },
    park: async (change, reason) => {
      this.#checkHeld();
      return this.#store.park(change, reason);
    },
    suspect: async (changes) => {
      this.#checkHeld();
      this.#store.countDeaths(changes);
    },
    clear: async (changes) => {
      this.#checkHeld();
      this.#store.clearDeaths(changes);
    },
    forget: async (changes) => {
      this.#checkHeld();
      this.#store.forgetFailures(changes);
    },
  };
}
