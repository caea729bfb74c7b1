/**
 * The reader: brings the active node's changes into its queue, by notification while the database is quiet, and by
 * reading the change log while it is busy.
 *
 *            drained: lock, marker, read to the end
 *   awake ------------------------------------------> asleep
 *         <------------------------------------------
 *            busy, no room, or told to look: unlock
 *
 * On the way to sleep it turns back when the log holds more than a page, or when more is announced than it may hold.
 *
 * What the writers do depends on it. A trigger tries, shared, the advisory lock that the sleeping reader holds
 * exclusively. Refused: the reader sleeps, and the writer notifies. Granted: the reader is awake, or nobody is there,
 * and the writer does not notify, which is what lets many of them commit at once; it keeps its share until it ends.
 *
 * Falling asleep loses nothing and repeats nothing:
 * 1. The lock is *tried*. While any transaction that was told "awake" is open, that fails and the reader stays awake.
 *    Once it is had, whatever was not announced has been committed.
 * 2. A marker is sent to the node's own listener, by the same road that notifications come.
 * 3. The log is read to its end: a complete pass, with a snapshot of its own, which sees all that was not announced.
 * 4. From then on announced changes are taken, except those of transactions which that snapshot sees: they have been
 *    read. Those that arrived before the pass was complete were held until then. When the marker has arrived too,
 *    notifications are proven to come through, and the reader is asleep.
 *
 * Waking is the reverse: announced changes are ignored from that moment, and the next pass reads what its
 * predecessor's snapshot did not see, less the sequences that notifications had brought.
 *
 * What it trusts: the log. A notification that is forged is not believed; one that is sent a second time tells of a
 * transaction that was read, or of a sequence that was seen. Notifications without a sequence are somebody's own: they
 * are in no log, and are handed out in either state.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { EventQueue } from '../delivery/event-queue.ts';
import { type Session, type Statement, connectionLost } from '../postgres/session.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import type { ChangeLog } from './change-log.ts';
import type { Change } from './change.ts';
import { type Payload, readPayload } from './notification.ts';
import { Load } from './write-rate.ts';

/** Rows per page. */
const PAGE = 2000;
/** Between passes that find nothing, at most, in milliseconds: doubled from one to the other. */
const MAX_PAUSE = 50;
/**
 * What a change weighs whose transaction was not the only one about to notify. Such transactions wait for each other,
 * so their number per second says how fast the disk is and not how busy the writers are.
 */
const CROWDED = 12;
/** Sequences remembered while asleep; then a pass makes them superfluous. */
const MAX_SEEN = 1000;
/** Announcements held while turning; more of them tell of a database that is too busy to sleep. */
const MAX_HELD = 100;
/** Above its capacity, how many events made by hand the queue may hold. There is no log that could keep them. */
const MAX_FOREIGN = 10_000;

// $1: the sleep lock. $2: the nodes' channel. $3: the message that carries the marker.
const fallAsleep: Statement = {
  name: 'reader_fall_asleep',
  text: `
SELECT locked, CASE WHEN locked THEN pg_catalog.pg_notify($2, $3) END
FROM (SELECT pg_catalog.pg_try_advisory_lock($1::bigint) AS locked OFFSET 0) attempt`,
};
const wakeUp: Statement = {
  name: 'reader_wake_up',
  text: 'SELECT pg_catalog.pg_advisory_unlock($1::bigint)',
};

export interface ReaderOptions {
  readonly session: Session;
  readonly log: ChangeLog;
  readonly queue: EventQueue;
  readonly names: Names;
  readonly secret: Buffer;
  readonly foreignNotifications: 'accept' | 'ignore';
  /** How long the marker may take; milliseconds. */
  readonly markerTimeout: number;
  readonly notify: Notify;
  /** Told of garbage. */
  readonly fail: (error: PostgresInputError) => void;
}

/** What our triggers notify of: changes, or that there are some in the log. */
type Announcement = Extract<Payload, { kind: 'changes' | 'look' }>;

export class Reader {
  readonly #options: ReaderOptions;
  readonly #load = new Load();
  #phase: 'awake' | 'turning' | 'asleep' = 'awake';
  #locked = false;
  /** Cuts short: awake, the pause between two passes; turning, the wait for the marker; asleep, the sleep. */
  readonly #attention = new Wakeup();
  #marker: string | null = null;
  #held: Announcement[] = [];
  /** Sequences that notifications brought and no complete pass covers yet. */
  readonly #seen = new Set<string>();

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Reads until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let pause = 0;
    try {
      while (!signal.aborted) {
        const found = await this.#readPass(signal);
        this.#load.add(found);
        if (this.#load.isQuiet && (await this.#fallAsleep(signal))) {
          while (this.#phase === 'asleep' && !signal.aborted) await this.#attention.wait(Infinity, signal);
          await this.#wakeUp();
        } else if (found < PAGE / 2) {
          pause = found > 0 ? this.#load.pause : Math.min(2 * pause + 2, MAX_PAUSE);
          await this.#attention.wait(pause, signal);
        }
      }
    } finally {
      await this.#wakeUp().catch(() => {});
    }
  }

  /** To be called for every payload on the input's channel. */
  onPayload(text: string): void {
    const { foreignNotifications, notify, fail } = this.#options;
    const payload = readPayload(text, this.#options.secret);
    switch (payload.kind) {
      case 'changes':
      case 'look':
        if (this.#phase === 'asleep') this.#take(payload);
        else if (this.#phase === 'awake') this.#attention.wake();
        else if (this.#held.length < MAX_HELD) this.#held.push(payload);
        else this.#stopSleeping();
        break;
      case 'forged':
        notify('forged');
        break;
      case 'foreign':
        if (this.#isInternal(payload.change)) break;
        if (foreignNotifications === 'ignore' || this.#options.queue.room <= -MAX_FOREIGN) notify('ignored');
        else this.#options.queue.push([payload.change]);
        break;
      case 'garbage':
        if (foreignNotifications === 'ignore') notify('ignored');
        else fail(payload.error);
    }
  }

  /** To be called for every marker on the nodes' channel. */
  onMarker(marker: string): void {
    if (marker !== this.#marker) return;
    this.#marker = null;
    this.#attention.wake();
  }

  /** A complete pass over what is new. Returns the number of changes. */
  async #readPass(signal: AbortSignal): Promise<number> {
    let found = 0;
    for (;;) {
      await this.#options.queue.waitForRoom(PAGE, signal);
      if (signal.aborted) return found;
      const { last, count } = await this.#readPage();
      found += count;
      if (last) return found;
    }
  }

  async #readPage(): Promise<{ last: boolean; count: number }> {
    const { changes, last } = await this.#options.log.readPage(PAGE);
    const fresh =
      this.#seen.size === 0 ? changes : changes.filter(({ sequence }) => !this.#seen.has(sequence!));
    if (last) this.#seen.clear();
    this.#options.queue.push(fresh);
    return { last, count: fresh.length };
  }

  /** Returns whether the reader is asleep. */
  async #fallAsleep(signal: AbortSignal): Promise<boolean> {
    const { session, names, queue, markerTimeout, notify } = this.#options;
    if (queue.room < PAGE || signal.aborted) return false;
    this.#marker = randomUUID();
    const [attempt] = await session.query<{ locked: boolean }>(fallAsleep, [
      names.sleepKey,
      names.nodeChannel,
      encodeNodeMessage({ kind: 'marker', marker: this.#marker }),
    ]);
    if (!attempt!.locked) return false;

    this.#locked = true;
    this.#phase = 'turning';
    const { last, count } = await this.#readPage();
    this.#load.add(count);
    if (!last || this.#load.isBusy) {
      await this.#wakeUp();
      return false;
    }
    await this.#markerArrives(markerTimeout, signal);
    if (signal.aborted) return false;
    if (this.#phase !== 'turning') {
      await this.#wakeUp();
      return false;
    }
    this.#phase = 'asleep';
    notify('asleep');
    const held = this.#held;
    this.#held = [];
    for (const announcement of held) this.#take(announcement);
    return true;
  }

  async #markerArrives(timeout: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeout;
    while (this.#marker !== null && this.#phase === 'turning' && !signal.aborted) {
      const left = deadline - performance.now();
      if (left > 0) await this.#attention.wait(left, signal);
      // Where the process was frozen it may be there and wait to be read.
      else await setImmediate();
      if (left <= 0 && this.#marker !== null && this.#phase === 'turning')
        throw connectionLost(new Error('notifications no longer arrive'));
    }
  }

  async #wakeUp(): Promise<void> {
    this.#stopSleeping();
    this.#held = [];
    if (!this.#locked) return;
    this.#locked = false;
    await this.#options.session.query(wakeUp, [this.#options.names.sleepKey]);
  }

  /** From here on, at once, the log alone is believed: what one notification leaves to it, the next must not overtake. */
  #stopSleeping(): void {
    if (this.#phase === 'asleep') this.#options.notify('awake');
    this.#phase = 'awake';
    this.#attention.wake();
  }

  #take(announcement: Announcement): void {
    if (this.#phase !== 'asleep') return;
    if (announcement.kind === 'look') return this.#stopSleeping();
    const { changes, xid, crowded } = announcement;
    if (this.#options.log.covers(xid)) return;
    if (this.#options.queue.room < changes.length) return this.#stopSleeping();
    const fresh = changes.filter(({ sequence }) => !this.#seen.has(sequence!));
    for (const { sequence } of fresh) this.#seen.add(sequence!);
    this.#options.queue.push(fresh);
    this.#load.add(crowded ? CROWDED * fresh.length : fresh.length);
    if (this.#load.isBusy || this.#seen.size >= MAX_SEEN) this.#stopSleeping();
  }

  #isInternal({ location }: Change): boolean {
    const { lockTable, schema } = this.#options.names;
    return location === lockTable.name || location === `${schema}.${lockTable.name}`;
  }
}
