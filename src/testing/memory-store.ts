/**
 * What a database keeps for an input, in memory: the log, what is known of failures, the parked changes, and the lease's token.
 *
 * It outlives the terms, as the tables do. Whatever happens in it, or may have happened, is a sign: who waits for something looks again at each.
 */
import type { ChangeEvent, ParkedEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Failure, LoggedChange } from '../capture/failures.ts';
import { eventOf } from '../delivery/event.ts';
import { original, parseSequence, publicSequence, redriven } from '../schema/log-layout.ts';
import { type EmittedChange, type EmittedEvent, emittedChange, emittedDecoder } from './emitted-change.ts';
import { VirtualClock } from './virtual-clock.ts';

interface KnownFailure extends LoggedChange {
  readonly attempts: number;
  readonly error: string | null;
  readonly deaths: number;
  /** By the clock. */
  readonly next: number;
}

interface Parked {
  readonly change: EmittedChange;
  readonly attempts: number;
  readonly error: string;
  readonly parkedAt: string;
}

export class MemoryStore {
  /** The id of the input. */
  readonly id: string;
  readonly clock = new VirtualClock(() => this.sign());
  /** The events that are acknowledged, in that order. */
  readonly acked: ChangeEvent[] = [];
  /** The token of the last claim of the lease. */
  token = 0;
  /** Whether the last holder of the lease has ended with grace. */
  wasReleased = true;
  /** By their numbers, in the order in which they arrived. */
  readonly #log = new Map<string, EmittedChange>();
  readonly #failures = new Map<string, KnownFailure>();
  /** By their public sequences. */
  readonly #parked = new Map<string, Parked>();
  /** All that were ever emitted, by their numbers. */
  readonly #emitted = new Map<string, EmittedChange>();
  #waiting: (() => void)[] = [];
  /** Called for every change that arrives in the log. */
  onArrival: (change: EmittedChange) => void = () => {};
  /** Called with the number of every change that is acknowledged or parked. */
  onOver: (number: string) => void = () => {};

  constructor(id: string) {
    this.id = id;
  }

  /** Something has happened. */
  sign(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves with the next sign. */
  nextSign(): Promise<void> {
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  get changes(): IterableIterator<EmittedChange> {
    return this.#log.values();
  }

  /** The changes that a log has: rows that a backfill has read are in none. */
  get logged(): EmittedChange[] {
    return [...this.#log.values()].filter((change) => !change.isRead);
  }

  /** When the oldest of them was written; null if there is none. */
  get oldestChangeAt(): string | null {
    const number = ({ sequence }: EmittedChange) => BigInt(sequence!);
    const [oldest] = this.logged.toSorted((one, other) => (number(one) < number(other) ? -1 : 1));
    return oldest?.occurredAt ?? null;
  }

  get isEmpty(): boolean {
    return this.#log.size === 0;
  }

  has(number: string): boolean {
    return this.#log.has(number);
  }

  get(number: string): EmittedChange | undefined {
    return this.#log.get(number);
  }

  numberOf(seq: string): string {
    return this.#log.has(redriven(seq)) ? redriven(seq) : seq;
  }

  /** Completes a change. It is in the log only when it is added. */
  make(event: EmittedEvent): EmittedChange {
    const change = emittedChange(event, this.#emitted.size + 1, this.clock.time);
    this.#emitted.set(change.sequence!, change);
    return change;
  }

  add(change: EmittedChange): void {
    this.#log.set(change.sequence!, change);
    this.onArrival(change);
    this.sign();
  }

  /** Puts a change that is over back, as if that had not been written. */
  addAgain(event: ChangeEvent): void {
    const seq = parseSequence(event?.sequence)?.seq ?? '';
    const change = this.#emitted.get(seq);
    const isOurs =
      event?.trigger === this.id && this.acked.some(({ sequence }) => sequence === event.sequence);
    if (change && isOurs && !this.has(this.numberOf(seq)) && !this.#parked.has(nameOf(change)))
      return this.add(change);
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      'redeliver() takes an event of this input that is acknowledged: another one comes by itself, or with takeover() or redrive()',
    );
  }

  eventOf(change: EmittedChange, attempt = 1): ChangeEvent {
    return eventOf(change, this.id, this.token === 0 ? null : String(this.token), emittedDecoder, attempt);
  }

  acknowledge(number: string): void {
    const change = this.#log.get(number);
    if (!change) return;
    this.acked.push(this.eventOf(change, (this.#failures.get(number)?.attempts ?? 0) + 1));
    this.#remove(number);
  }

  #remove(number: string): void {
    this.#log.delete(number);
    this.onOver(number);
    this.sign();
  }

  /** What is known when a term begins. */
  loadFailures(): Failure[] {
    for (const number of this.#failures.keys()) if (!this.#log.has(number)) this.#failures.delete(number);
    return [...this.#failures.values()].map(({ next, ...known }) => ({
      ...known,
      delay: next - this.clock.now(),
    }));
  }

  noteFailure(
    { sequence, stamp }: LoggedChange,
    { error, delay, attempts }: { error: string; delay: number; attempts: number },
  ): void {
    const { deaths = 0 } = this.#failures.get(sequence) ?? {};
    const next = this.clock.now() + delay;
    this.#failures.set(sequence, { sequence, stamp, attempts, error, deaths, next });
    this.sign();
  }

  countDeaths(changes: readonly LoggedChange[]): void {
    for (const { sequence, stamp } of changes) {
      const known = this.#failures.get(sequence) ?? {
        sequence,
        stamp,
        attempts: 0,
        error: null,
        deaths: 0,
        next: 0,
      };
      this.#failures.set(sequence, { ...known, deaths: known.deaths + 1 });
    }
  }

  clearDeaths(changes: readonly LoggedChange[]): void {
    for (const { sequence } of changes) {
      const known = this.#failures.get(sequence);
      if (known?.attempts === 0) this.#failures.delete(sequence);
      else if (known) this.#failures.set(sequence, { ...known, deaths: 0 });
    }
  }

  forgetFailures(changes: readonly LoggedChange[]): void {
    for (const { sequence } of changes) this.#failures.delete(sequence);
  }

  /** How many changes have failed and come again. */
  get retrying(): number {
    return [...this.#failures.values()].filter(({ attempts }) => attempts > 0).length;
  }

  park(
    { sequence: number }: LoggedChange,
    { error, attempts }: { error: string; attempts: number },
  ): boolean {
    const change = this.#log.get(number);
    if (!change) return false;
    const parked = { change: change.under(original(number)), attempts, error, parkedAt: this.clock.time };
    this.#parked.set(nameOf(change), parked);
    this.#failures.delete(number);
    this.#remove(number);
    return true;
  }

  get parked(): ParkedEvent[] {
    return [...this.#parked.entries()]
      .toSorted(([one], [other]) => (BigInt(one) < BigInt(other) ? -1 : 1))
      .map(([, { change, ...details }]) => ({
        ...eventOf(change, this.id, null, emittedDecoder),
        ...details,
      }));
  }

  get parkedCount(): number {
    return this.#parked.size;
  }

  /** Takes these out of the parked ones. */
  unpark(which: readonly string[] | 'all'): EmittedChange[] {
    const chosen = [...this.#parked.keys()].filter((name) => which === 'all' || which.includes(name));
    return chosen.map((name) => {
      const { change } = this.#parked.get(name)!;
      this.#parked.delete(name);
      return change;
    });
  }

  clear(): void {
    this.#log.clear();
    this.#failures.clear();
    this.#parked.clear();
  }
}

const nameOf = ({ sequence, stamp }: EmittedChange): string => publicSequence(sequence!, stamp);
