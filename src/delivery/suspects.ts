/**
 * Finds the change whose handler kills its process, by an exit, by memory, or by a loop until the lease is lost.
 *
 * The process leaves no word of what it had in hand. So after a term that ended without grace, the changes that come first are suspected: as many as
 * it can have had in hand, or have handled without having written that. A death is counted for suspects before they are handed out, all of a group in one statement, and taken back when their handler has
 * ended, or takes so long that it is told to be slow. Nothing else is in hand meanwhile, but what is slow. Whoever dies leaves the count, and the next term hands those with the most deaths out first, in
 * smaller groups: from the fourth time on, one at a time. So the last two deaths are counted for the guilty change alone, and after five it is parked.
 */
import type { Failures } from '../capture/failures.ts';
import { MAX_READS_OUT } from '../capture/sink.ts';
import { CAPACITY } from './delivery.ts';
import type { Ticket } from './line.ts';

/** A change that was in hand at so many deaths in a row is parked. */
export const MAX_DEATHS = 5;

export interface SuspectsOptions {
  readonly concurrency: number;
  /** The weight of the changes that are suspected although no death was counted for them yet: those that come first. */
  readonly first: number;
  readonly failures: Failures;
  /** Resolves when the end of the group before is written: its acknowledgements, and the deaths that are taken back. */
  readonly written: () => Promise<void>;
  /** Called when suspects may be handed out. */
  readonly ready: () => void;
  /** Called when the deaths can't be counted. */
  readonly fail: (error: unknown) => void;
}

interface Suspect {
  readonly ticket: Ticket;
  readonly deaths: number;
}

/** How many suspects are handed out together. */
const groupSize = (deaths: number, concurrency: number): number =>
  deaths === 0 ? Infinity : deaths >= 3 ? 1 : Math.ceil(concurrency / 4 ** deaths);

export class Suspects {
  readonly #options: SuspectsOptions;
  #first: number;
  /** The same for rows that a backfill has read: all of a chunk come again until the chunk is over. */
  #firstReads: number;
  #waiting: Suspect[] = [];
  /** The weight of those that wait. */
  #weight = 0;
  /** Those for which a death is counted now. */
  readonly #group = new Set<Ticket>();
  /** Those of the group that are to be handed out; empty until the deaths are counted. */
  #next: Ticket[] = [];

  constructor(options: SuspectsOptions) {
    this.#options = options;
    this.#first = options.first;
    this.#firstReads = options.first > 0 ? MAX_READS_OUT : 0;
  }

  /** Whether there are any: nothing else may be handed out. */
  get any(): boolean {
    return this.#waiting.length > 0 || this.#group.size > 0;
  }

  /** Whether so many wait that no more may be kept. What waits here takes up no room elsewhere, so that more would come. */
  get isFull(): boolean {
    return this.#weight >= CAPACITY;
  }

  /** Whether a group is under way: no other change is looked at until it is over. */
  get isUnderWay(): boolean {
    return this.#group.size > 0;
  }

  /** Whether the change is suspected: if so, it is kept until its group is handed out. Changes announced by hand are in no log. */
  keep(ticket: Ticket, deaths: number): boolean {
    const { sequence, weight } = ticket.change;
    if (sequence === null || (deaths === 0 && !this.#isFirst(ticket))) return false;
    this.#waiting.push({ ticket, deaths });
    this.#weight += weight;
    return true;
  }

  #isFirst({ change: { isRead, weight } }: Ticket): boolean {
    if (isRead) return this.#firstReads-- > 0;
    if (this.#first === 0) return false;
    this.#first = Math.max(0, this.#first - weight);
    return true;
  }

  /** Begins with the next group. To be called when nothing is in hand. */
  begin(): void {
    const { concurrency } = this.#options;
    const deaths = Math.max(...this.#waiting.map((suspect) => suspect.deaths));
    let left = groupSize(deaths, concurrency);
    const group = this.#waiting.filter((suspect) => suspect.deaths === deaths && left-- > 0);
    this.#waiting = this.#waiting.filter((suspect) => !group.includes(suspect));
    for (const { ticket } of group) {
      this.#group.add(ticket);
      this.#weight -= ticket.change.weight;
    }
    void this.#count(group);
  }

  async #count(group: readonly Suspect[]): Promise<void> {
    const { failures, written, ready, fail } = this.#options;
    try {
      // The next handler may kill the process at once: what the group before has done must not come again with it.
      await written();
      await failures.suspect(group.map(({ ticket }) => named(ticket)));
      this.#next = group.map(({ ticket }) => ticket);
      ready();
    } catch (error) {
      fail(error);
    }
  }

  take(): Ticket | null {
    return this.#next.shift() ?? null;
  }

  /** The change's handler has ended, however: it killed nobody. Returns whether it was suspected. */
  end(ticket: Ticket): boolean {
    return this.#group.delete(ticket);
  }

  /** Those for which a death is counted although the process lives. */
  get counted(): { sequence: string; stamp: string }[] {
    return [...this.#group].map(named);
  }
}

const named = ({ change: { sequence, stamp } }: Ticket) => ({ sequence: sequence!, stamp });
