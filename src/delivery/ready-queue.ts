/** The changes that had to wait and may be handed out now, in the order in which they became ready. */
import type { Ticket } from './line.ts';

/** How many taken changes may still take up space. */
const SLACK = 1000;

export class ReadyQueue {
  #tickets: Ticket[] = [];
  #next = 0;
  #weight = 0;

  /** The weight of the changes. */
  get weight(): number {
    return this.#weight;
  }

  push(ticket: Ticket): void {
    this.#tickets.push(ticket);
    this.#weight += ticket.change.weight;
  }

  take(): Ticket | null {
    if (this.#next === this.#tickets.length) return null;
    const ticket = this.#tickets[this.#next++]!;
    this.#weight -= ticket.change.weight;
    if (this.#next === this.#tickets.length || this.#next > SLACK) {
      this.#tickets = this.#tickets.slice(this.#next);
      this.#next = 0;
    }
    return ticket;
  }

  clear(): void {
    this.#tickets = [];
    this.#next = 0;
    this.#weight = 0;
  }
}
