/**
 * Brings changes to the sink, each once: pages of the log, and changes that a notification brought without the log.
 *
 * A change may come by both roads, since a notification arrives before the pass that sees its transaction. Two rules keep the
 * change from coming twice:
 * - Changes of a transaction that a complete pass has seen are not taken from a notification any more.
 * - The changes that notifications brought are remembered, and left out of the pages, until a pass is complete. The
 *   snapshot of that pass sees them all, so that no later pass reads them.
 *
 * models/sleep.pml shows that both rules are needed.
 */
import { sleep } from '../postgres/sleep.ts';
import { PACK } from '../schema/log-layout.ts';
import type { ChangeLog } from './change-log.ts';
import type { Change } from './change.ts';
import type { Sink } from './sink.ts';

/** How many changes a page has at most, which is its weight as long as their texts are short. */
export const PAGE = 2000;
/** A page ends with the row of the log that brings it to this weight, and a row has up to PACK changes. */
const WANTED = PAGE - PACK + 1;
/** Milliseconds until it is tried again to read what was dropped. */
const RETRY = 10;

export class Passes {
  readonly #log: ChangeLog;
  readonly #sink: Sink;
  /** Changes that notifications brought and no complete pass covers yet: number and time, since a number may come again. */
  readonly #notified = new Set<string>();

  constructor(log: ChangeLog, sink: Sink) {
    this.#log = log;
    this.#sink = sink;
  }

  /** Whether there is room for a page. */
  get hasRoom(): boolean {
    return this.#sink.room >= PAGE;
  }

  /** Whether the log has to be read, or read again, before notifications can be taken. */
  get isBehind(): boolean {
    return !this.hasRoom || (this.#sink.dropped?.any ?? false);
  }

  /** How many changes are remembered. */
  get remembered(): number {
    return this.#notified.size;
  }

  /**
   * A complete pass over what is new, whenever there is room. Returns the number of changes. `upTo`: the snapshot at which the pass ends;
   * default: the present one. No change may be taken from a notification between that snapshot and the end of the pass.
   */
  async readAll(signal: AbortSignal, upTo: string | null = null): Promise<number> {
    let found = 0;
    for (;;) {
      const { dropped } = this.#sink;
      if (dropped) await dropped.waitForRoomOrWanted(PAGE, signal);
      else await this.#sink.waitForRoom(PAGE, signal);
      if (signal.aborted) return found;
      if (dropped?.areWanted) {
        await this.#readAgain(signal);
        if (!this.hasRoom) continue;
      }
      const { last, count } = await this.readPage(upTo);
      found += count;
      if (last) return found;
    }
  }

  /** The next page. `last`: the pass is complete. `count`: how many of its changes were new. */
  async readPage(upTo: string | null = null): Promise<{ last: boolean; count: number }> {
    const { changes, last } = await this.#log.readPage(WANTED, upTo);
    const fresh = this.#withoutNotified(changes);
    if (last) this.#notified.clear();
    this.#sink.push(fresh);
    return { last, count: fresh.length };
  }

  /** One page of what the sink has dropped and wants now. What a notification brought can be read again once a pass covers it. */
  async #readAgain(signal: AbortSignal): Promise<void> {
    if (this.#notified.size > 0) {
      if (!this.hasRoom) await sleep(RETRY, signal);
      return;
    }
    const reading = this.#sink.dropped!.begin();
    if (!reading) return;
    const { changes, upto } = await this.#log.readAgain(reading.from, WANTED);
    reading.take(changes, upto);
  }

  /**
   * Takes the changes of one statement, which a notification brought. Returns how many were new; null if there is no room for
   * them: a pass has to read them.
   */
  takeNotified(changes: readonly Change[], xid: bigint): number | null {
    if (this.#log.covers(xid)) return 0;
    this.#log.noticeNotified(changes, xid);
    if (this.#sink.room < changes.length) return null;
    const fresh = this.#withoutNotified(changes);
    for (const change of fresh) this.#notified.add(identityOf(change));
    this.#sink.push(fresh);
    return fresh.length;
  }

  #withoutNotified(changes: readonly Change[]): readonly Change[] {
    if (this.#notified.size === 0) return changes;
    return changes.filter((change) => !this.#notified.has(identityOf(change)));
  }
}

const identityOf = ({ sequence, occurredAt }: Change): string => `${sequence} ${occurredAt}`;
