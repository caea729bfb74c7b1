/**
 * What waits to be handed out where events can fail: the changes that the reader has brought, and those of them that wait in lanes.
 *
 * The lanes have half of the capacity. The rest is a page of the reader's, so that a slow key does not keep it from reading on. What lanes
 * have dropped is read again in the log when they are hungry.
 *
 * What no pass of the log brings can't be dropped like that: redriven changes, rows that a backfill has read, and what was announced by hand. Its weight counts
 * apart, so that it takes no room from the passes, however long its keys are held up.
 */
import type { Change } from '../capture/change.ts';
import type { DroppedChanges, Rereading, Sink } from '../capture/sink.ts';
import { ChangeBuffer } from './change-buffer.ts';
import { CAPACITY } from './delivery.ts';
import { Lanes, type LanesOptions } from './lanes.ts';
import type { Ticket } from './line.ts';

export interface LaneBufferOptions extends Omit<LanesOptions, 'capacity' | 'changed'> {
  /** Called when there may be something to hand out. */
  readonly ready: () => void;
  /** Called when the log is about to be read again. */
  readonly beginTaking: () => Taking;
  /** Called when changes were dropped, or are wanted again. */
  readonly readAgain: () => void;
}

/** What the consumer says of changes that are read again. */
export interface Taking {
  /** Whether the consumer has the change of this sequence in hand, or has been done with it since the reading began, or its acknowledgement may still have to be written. */
  isHeld(sequence: string): boolean;
  end(): void;
}

/** The weight of what may wait in lanes. */
const LANES = CAPACITY / 2;
/** How many changes may wait for their next attempt, or for the DELETEs of their statement: above that, nothing new is begun. */
const MAX_DEFERRED = 10_000;

export class LaneBuffer implements Sink {
  readonly #options: LaneBufferOptions;
  readonly #buffer = new ChangeBuffer();
  readonly #lanes: Lanes;
  #isStopped = false;
  #hadDropped = false;
  readonly dropped: DroppedChanges;

  constructor(options: LaneBufferOptions) {
    this.#options = options;
    const lanes = new Lanes({
      ...options,
      capacity: LANES,
      changed: () => {
        this.#tellOfDropped();
        options.ready();
      },
    });
    this.#lanes = lanes;
    this.dropped = {
      get any() {
        return lanes.hasDropped;
      },
      get areWanted() {
        return lanes.isHungry;
      },
      waitForRoomOrWanted: async (weight, signal) => {
        while (this.room < weight && !lanes.isHungry && !signal.aborted)
          await this.#buffer.roomMade.wait(Infinity, signal);
      },
      begin: () => this.#beginReading(),
    };
  }

  get room(): number {
    return CAPACITY - this.#buffer.weight - this.#lanes.weight;
  }

  get roomApart(): number {
    return CAPACITY - this.#buffer.weight - this.#lanes.apart;
  }

  /** How many changes wait for their next attempt. */
  get deferred(): number {
    return this.#lanes.deferred;
  }

  push(changes: readonly Change[]): void {
    if (this.#isStopped) return;
    this.#buffer.push(changes);
    this.#options.ready();
  }

  async waitForRoom(weight: number, signal: AbortSignal): Promise<void> {
    while (this.room < weight && !signal.aborted) await this.#buffer.roomMade.wait(Infinity, signal);
  }

  /** The next change whose lane is free. */
  take(): Ticket | null {
    let ticket = this.#lanes.takeReady();
    while (!ticket && !this.#buffer.isEmpty && this.#lanes.deferred + this.#lanes.heldUp < MAX_DEFERRED)
      ticket = this.#lanes.admit(this.#buffer.take());
    this.#tellOfDropped();
    if (this.room >= CAPACITY / 2) this.#buffer.roomMade.wake();
    return ticket;
  }

  /** The change is over. */
  finish(ticket: Ticket): void {
    this.#lanes.finish(ticket);
  }

  /** The change comes again after `delay` milliseconds. */
  defer(ticket: Ticket, delay: number): void {
    this.#lanes.defer(ticket, delay);
  }

  #tellOfDropped(): void {
    const has = this.#lanes.hasDropped;
    if (this.#lanes.isHungry || (has && !this.#hadDropped)) {
      this.#options.readAgain();
      this.#buffer.roomMade.wake();
    }
    this.#hadDropped = has;
  }

  #beginReading(): Rereading | null {
    const reading = this.#lanes.beginReading();
    if (!reading) return null;
    const taking = this.#options.beginTaking();
    return {
      from: reading.from,
      take: (changes, upto) => {
        if (this.#isStopped) return;
        const buffered = this.#buffer.sequences();
        const isTaken = ({ sequence }: Change) => buffered.has(sequence) || taking.isHeld(sequence!);
        this.#lanes.takeAgain(reading.lines, changes, upto, isTaken);
        taking.end();
        this.#tellOfDropped();
        this.#options.ready();
      },
    };
  }

  /** Forgets everything, for good. */
  stop(): void {
    this.#isStopped = true;
    this.#buffer.clear();
    this.#lanes.stop();
  }
}
