/**
 * The events of rows that a backfill has read and that nobody has acknowledged, each with the chunk that it is of.
 *
 * Nearly all are acknowledged in the order in which they were read. So they wait in queues, and the next one of the first queue is found without a
 * search, which would cost more than to hand the event out. Queues are indexed when an event has to be found that is not the next one.
 */
import type { Change } from './change.ts';

interface Out<Chunk> {
  readonly chunk: Chunk;
  readonly change: Change;
}

/** The events of one chunk, of which the first so many are taken. */
interface Queue<Chunk> {
  readonly chunk: Chunk;
  readonly changes: (Change | null)[];
  taken: number;
}

export class ReadsOut<Chunk> {
  /** The oldest first, each with an event to take. */
  readonly #queues: Queue<Chunk>[] = [];
  /** By their sequences, the events that wait in no queue. */
  readonly #index = new Map<string, Out<Chunk>>();

  get isEmpty(): boolean {
    return this.#queues.length === 0 && this.#index.size === 0;
  }

  add(chunk: Chunk, changes: readonly Change[]): void {
    if (changes.length > 0) this.#queues.push({ chunk, changes: [...changes], taken: 0 });
  }

  /** Takes an event out, and returns its chunk; null if the event is not there. */
  take(sequence: string): Chunk | null {
    const [queue] = this.#queues;
    if (queue && queue.changes[queue.taken]!.sequence === sequence) {
      // What is done with must not grow old in memory.
      queue.changes[queue.taken++] = null;
      if (queue.taken === queue.changes.length) this.#queues.shift();
      return queue.chunk;
    }
    const out = this.find(sequence);
    if (out) this.#index.delete(sequence);
    return out && out.chunk;
  }

  find(sequence: string): Out<Chunk> | null {
    const out = this.#index.get(sequence);
    if (out) return out;
    for (const waiting of this.#waiting()) this.#index.set(waiting.change.sequence!, waiting);
    this.#queues.length = 0;
    return this.#index.get(sequence) ?? null;
  }

  *[Symbol.iterator](): Iterator<Out<Chunk>> {
    yield* this.#index.values();
    yield* this.#waiting();
  }

  *#waiting(): Iterable<Out<Chunk>> {
    for (const { chunk, changes } of this.#queues)
      for (const change of changes) if (change) yield { chunk, change };
  }
}
