/**
 * The events of rows that a backfill has read and that nobody has acknowledged, each with the chunk that it is of.
 *
 * Nearly all are acknowledged in the order in which they were read. So they stand in lines, and the next one of the first line is found without a
 * search, which would cost more than to hand the event out. Lines are indexed when an event has to be found that is not the next one.
 */
import type { Change } from './change.ts';

interface Out<Chunk> {
  readonly chunk: Chunk;
  readonly change: Change;
}

/** The events of one chunk, of which the first so many are taken. */
interface Line<Chunk> {
  readonly chunk: Chunk;
  readonly changes: (Change | null)[];
  taken: number;
}

export class ReadsOut<Chunk> {
  /** The oldest first, each with an event to take. */
  readonly #lines: Line<Chunk>[] = [];
  /** By their sequences, the events that stand in no line. */
  readonly #index = new Map<string, Out<Chunk>>();

  get isEmpty(): boolean {
    return this.#lines.length === 0 && this.#index.size === 0;
  }

  add(chunk: Chunk, changes: readonly Change[]): void {
    if (changes.length > 0) this.#lines.push({ chunk, changes: [...changes], taken: 0 });
  }

  /** Takes an event out, and returns its chunk; null if the event is not there. */
  take(sequence: string): Chunk | null {
    const [line] = this.#lines;
    if (line && line.changes[line.taken]!.sequence === sequence) {
      // What is done with must not grow old in memory.
      line.changes[line.taken++] = null;
      if (line.taken === line.changes.length) this.#lines.shift();
      return line.chunk;
    }
    const out = this.find(sequence);
    if (out) this.#index.delete(sequence);
    return out && out.chunk;
  }

  find(sequence: string): Out<Chunk> | null {
    return this.#index.get(sequence) ?? this.#inLine(sequence);
  }

  *[Symbol.iterator](): Iterator<Out<Chunk>> {
    yield* this.#index.values();
    for (const { chunk, changes } of this.#lines)
      for (const change of changes) if (change) yield { chunk, change };
  }

  #inLine(sequence: string): Out<Chunk> | null {
    for (const { chunk, changes } of this.#lines)
      for (const change of changes) if (change) this.#index.set(change.sequence!, { chunk, change });
    this.#lines.length = 0;
    return this.#index.get(sequence) ?? null;
  }
}
