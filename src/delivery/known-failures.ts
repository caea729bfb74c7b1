/**
 * What a term knows of changes that failed: how often, when they may come again, and at how many deaths they were in hand.
 *
 * It is loaded when the term begins, and kept beside what is written in the tables. What has to be removed there in one turn of the event loop is
 * removed together.
 */
import type { Change } from '../capture/change.ts';
import type { Failure, Failures, LoggedChange } from '../capture/failures.ts';
import type { Clock } from './clock.ts';

export interface KnownFailure {
  readonly attempts: number;
  readonly deaths: number;
  /** When the change may come again, by the clock. */
  readonly due: number;
}

export interface KnownFailuresOptions {
  readonly clock: Clock;
  readonly failures: () => Failures;
  /** Called when something can't be written although the lease is held. */
  readonly fail: (error: unknown) => void;
}

export class KnownFailures {
  readonly #options: KnownFailuresOptions;
  readonly #known = new Map<string, KnownFailure>();
  /** Of changes that were announced by hand, and that no table knows. */
  readonly #byHand = new WeakMap<Change, KnownFailure>();
  readonly #cleared: LoggedChange[] = [];
  readonly #forgotten: LoggedChange[] = [];
  #isWriting = false;

  constructor(options: KnownFailuresOptions) {
    this.#options = options;
  }

  load(failures: readonly Failure[]): void {
    const now = this.#options.clock.now();
    for (const { sequence, attempts, deaths, delay } of failures)
      this.#known.set(sequence, { attempts, deaths, due: now + delay });
  }

  of(change: Change): KnownFailure | undefined {
    return change.sequence === null ? this.#byHand.get(change) : this.#known.get(change.sequence);
  }

  /** The change comes again after `delay` milliseconds; so many attempts have failed. */
  comesAgain(change: Change, attempts: number, delay: number): void {
    const failure = { attempts, deaths: 0, due: this.#options.clock.now() + delay };
    if (change.sequence === null) this.#byHand.set(change, failure);
    else this.#known.set(change.sequence, failure);
  }

  /** The change is parked, which has removed what was written of it. */
  drop({ sequence }: LoggedChange): void {
    this.#known.delete(sequence);
  }

  /** The change is acknowledged: what is kept of it goes, soon. `wasSuspected`: there may be a row of it that is not known here. */
  forget(change: LoggedChange, wasSuspected: boolean): void {
    if (this.#known.delete(change.sequence) || wasSuspected) this.#note(this.#forgotten, change);
  }

  /** The change killed nobody: the deaths that were counted for it go, soon. */
  clear(change: LoggedChange): void {
    this.#note(this.#cleared, change);
  }

  /** What ends in one turn of the event loop is written together. */
  #note(list: LoggedChange[], change: LoggedChange): void {
    list.push(change);
    if (this.#isWriting) return;
    this.#isWriting = true;
    setImmediate(() => void this.writeNotes());
  }

  async writeNotes(): Promise<void> {
    this.#isWriting = false;
    const failures = this.#options.failures();
    try {
      await Promise.all([
        failures.clear(this.#cleared.splice(0)),
        failures.forget(this.#forgotten.splice(0)),
      ]);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Without the lease nothing can be written, and the term is ending. */
  failed(error: unknown): void {
    if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') this.#options.fail(error);
  }
}
