/**
 * Which of the changes that wait is handed out next: the first whose lane is free, unless its next attempt is not due. Suspects come before
 * all others, and alone.
 */
import type { Clock } from './clock.ts';
import type { KnownFailure, KnownFailures } from './known-failures.ts';
import type { LaneBuffer } from './lane-buffer.ts';
import type { Ticket } from './line.ts';
import { MAX_DEATHS, Suspects, type SuspectsOptions } from './suspects.ts';

export interface TurnOrderOptions {
  readonly clock: Clock;
  readonly waiting: LaneBuffer;
  readonly known: KnownFailures;
  /** Whether the consumer has anything in hand that may kill the process. */
  readonly isInHand: () => boolean;
  /** Called for a change that was in hand at too many deaths; null if nobody is suspected. */
  readonly condemn: ((ticket: Ticket, known: KnownFailure) => void) | null;
}

export class TurnOrder {
  readonly #options: TurnOrderOptions;
  #suspects: Suspects | null = null;
  /** What comes after the suspects. */
  #kept: Ticket | null = null;

  constructor(options: TurnOrderOptions) {
    this.#options = options;
  }

  /** From now on, what comes first is suspected. */
  suspect(options: SuspectsOptions): void {
    this.#suspects = new Suspects(options);
  }

  /** Takes the next change; null if none can be handed out. */
  next(): Ticket | null {
    const { clock, waiting, known, isInHand, condemn } = this.#options;
    const suspects = this.#suspects;
    if (suspects?.isUnderWay) return suspects.take();
    for (let ticket = this.#take(); ticket; ticket = this.#take()) {
      const failure = known.of(ticket.change);
      const delay = failure ? failure.due - clock.now() : 0;
      if (delay > 0) waiting.defer(ticket, delay);
      else if (condemn && failure && failure.deaths >= MAX_DEATHS) condemn(ticket, failure);
      else if (suspects?.keep(ticket, failure?.deaths ?? 0)) continue;
      else if (suspects?.any) {
        this.#kept = ticket;
        break;
      } else return ticket;
    }
    // What was condemned is in hand, too.
    if (suspects?.any && !isInHand()) suspects.begin();
    return null;
  }

  #take(): Ticket | null {
    if (this.#suspects?.isFull) return null;
    const kept = this.#kept;
    this.#kept = null;
    return kept ?? this.#options.waiting.take();
  }

  /** The change's handler has ended, however: it killed nobody. Returns whether it was suspected. */
  acquit(ticket: Ticket): boolean {
    return this.#suspects?.end(ticket) ?? false;
  }

  /** The changes for which a death is counted although the process lives. */
  get counted(): { sequence: string; stamp: string }[] {
    return this.#suspects?.counted ?? [];
  }

  stop(): void {
    this.#kept = null;
  }
}
