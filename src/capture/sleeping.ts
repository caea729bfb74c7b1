/**
 * The protocol of sleeping: how the reader changes from reading the log to taking notifications, and back.
 *
 *            the lock is had            the marker has arrived
 *   awake ---------------------> turning ---------------------> asleep
 *     ^                             |                              |
 *     +-----------------------------+------------------------------+
 *        busy, no room for changes, told to look at the log, or the notification queue fills up: unlock
 *
 * The writers' side is an advisory lock, the sleep lock. A trigger tries to share the lock. If the reader holds the lock,
 * that fails, and the writer notifies. If the writer gets its share, then the reader is awake or nobody is active: the
 * writer does not notify, which lets many writers commit at once, and it keeps its share until its transaction ends.
 *
 * Falling asleep loses nothing and repeats nothing:
 * 1. The reader *tries* the lock. As long as any transaction is open that was not to notify, this fails and the reader
 *    stays awake. Once the reader has the lock, all changes that were not announced have been committed.
 * 2. The same statement sends a marker to the node's own listener, by the road that the notifications take.
 * 3. The reader reads the log to its end. The snapshot of that pass sees all that was not announced.
 * 4. From the lock on, announcements are held. After the pass and the marker they are taken, as are all that follow, except
 *    for transactions that the pass has read (passes.ts). The marker proves that notifications come through.
 *
 * An announcement may say no more than "look". If these are rare, the reader wakes up. If the triggers send nothing else, the reader stays
 * asleep and reads the log once: an announcement that arrives before that pass begins needs no other, since a listener hears of a
 * transaction that every later snapshot sees; one that arrives during the pass is held until the pass has ended, as in turning.
 *
 * The reader turns back when the log holds more than a page, when too much is announced to be held, or when an announcement
 * says no more than "look". If the marker does not arrive in time, the listener is deaf: the term fails.
 *
 * The notification queue is the server's, and a session that listens and has a transaction open keeps all that follows in the queue. When the
 * queue is full, every commit that notifies fails, and goes on failing until somebody asks for the queue's usage. So the usage is
 * asked for before the lock is tried and with every renewal of the lease, and above a level the reader stays awake.
 *
 * Waking up takes effect at once: from then on announcements are ignored, and the next pass reads their changes. If one
 * announcement were left to the log and the next one taken, the second would overtake the first.
 *
 * models/sleep.pml checks this protocol exhaustively, in the same words.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Notify } from '../api/lifecycle-events.ts';
import { type Session, type Statement, connectionLost } from '../postgres/session.ts';
import { isQueueFull } from '../postgres/sqlstates.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import type { Payload } from './notification.ts';
import type { Passes } from './passes.ts';
import type { WriteRate } from './write-rate.ts';

/** Milliseconds until the lock is tried again: each attempt is a statement more for a pass. */
const TRY_AGAIN = 20;
/** How many changes may be remembered until a pass makes that superfluous. */
const MAX_REMEMBERED = 1000;
/** How many announcements may be held; a database that announces more is too busy to sleep. */
const MAX_HELD = 100;

/** The share of the notification queue from which on the reader stays awake. */
const QUEUE_LEVEL = 0.25;

// $1: the sleep lock. $2: the nodes' channel. $3: the message with the marker. $4: the level of the notification queue.
const tryLock: Statement = {
  name: 'reader_fall_asleep',
  text: `
SELECT usage, locked, CASE WHEN locked THEN pg_notify($2, $3) END
FROM (
  SELECT usage, CASE WHEN usage < $4 THEN pg_try_advisory_lock($1::bigint) ELSE false END AS locked
  FROM (SELECT pg_notification_queue_usage()::float8 AS usage OFFSET 0) queue
  OFFSET 0
) attempt`,
};
const unlock: Statement = {
  name: 'reader_wake_up',
  text: 'SELECT pg_advisory_unlock($1::bigint)',
};

/** What our triggers notify of: changes, or that there are some in the log. */
export type Announcement = Extract<Payload, { kind: 'changes' | 'look' }>;

export interface SleepingOptions {
  /** Whether there is something to read beside what is announced, by a reader that is awake. */
  readonly mayNotSleep?: () => boolean;
  readonly session: Session;
  readonly names: Names;
  readonly passes: Passes;
  readonly writeRate: WriteRate;
  /** Whether the triggers announce nothing but "look", so that the reader stays asleep when it looks. */
  readonly readsAsleep: boolean;
  /** How long the marker may take; milliseconds. */
  readonly markerTimeout: number;
  readonly notify: Notify;
}

/** How a reader rests between passes. */
export interface Rest {
  /** Between passes that find nothing, at most, in milliseconds: doubled from one to the other. */
  readonly longestPause: number;
  /** Awake, the pause between two passes: an announcement cuts it short. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
  /** Falls asleep, if that is possible, and sleeps. Afterwards the reader is awake. Returns whether it was asleep. */
  sleep(signal: AbortSignal): Promise<boolean>;
  /** Gives the lock back, so that writers no longer notify. Does nothing when the reader is awake. */
  wakeUp(): Promise<void>;
  /** To be called when there is something to read beside what is announced: it wakes up, or ends a pause between two passes. */
  rouse(): void;
  onAnnouncement(announcement: Announcement): void;
  onMarker(marker: string): void;
  /** To be called with every renewal of the lease: the share of the notification queue that is in use. */
  onQueueUsage(usage: number): void;
}

export class Sleeping implements Rest {
  readonly longestPause = 50;
  readonly #options: SleepingOptions;
  /** `looking`: asleep, and reading the log because an announcement said so, or because many changes are remembered. */
  #phase: 'awake' | 'turning' | 'asleep' | 'looking' = 'awake';
  /** Whether this session holds the sleep lock. */
  #locked = false;
  /** The marker that is on its way. */
  #marker: string | null = null;
  #held: Announcement[] = [];
  /** Whether the notification queue was above its level when its usage was last asked for. */
  #queueIsFilling = false;
  /** When the lock was last not to be had. */
  #refusedAt = -Infinity;
  /** Cuts short: awake, the pause between two passes; turning, the wait for the marker; asleep, the sleep. */
  readonly #attention = new Wakeup();

  constructor(options: SleepingOptions) {
    this.#options = options;
  }

  pause(ms: number, signal: AbortSignal): Promise<void> {
    return this.#attention.wait(ms, signal);
  }

  async sleep(signal: AbortSignal): Promise<boolean> {
    if (
      this.#options.passes.isBehind ||
      this.#queueIsFilling ||
      signal.aborted ||
      this.#options.mayNotSleep?.() ||
      performance.now() < this.#refusedAt + TRY_AGAIN
    )
      return false;
    if (!(await this.#tryLock())) {
      this.#refusedAt = performance.now();
      return false;
    }
    const isAsleep = await this.#fallAsleep(signal);
    while (this.#isAsleep && !signal.aborted) {
      if (this.#phase === 'looking') await this.#look();
      else await this.#attention.wait(Infinity, signal);
    }
    await this.wakeUp();
    return isAsleep;
  }

  get #isAsleep(): boolean {
    return this.#phase === 'asleep' || this.#phase === 'looking';
  }

  async wakeUp(): Promise<void> {
    this.#stopTaking();
    this.#held = [];
    if (!this.#locked) return;
    this.#locked = false;
    await this.#options.session.query(unlock, [this.#options.names.sleepKey]);
  }

  rouse(): void {
    this.#stopTaking();
  }

  onAnnouncement(announcement: Announcement): void {
    if (this.#phase === 'asleep') this.#take(announcement);
    else if (this.#phase === 'awake') this.#attention.wake();
    else if (this.#held.length < MAX_HELD) this.#held.push(announcement);
    else this.#stopTaking();
  }

  onMarker(marker: string): void {
    if (marker !== this.#marker) return;
    this.#marker = null;
    this.#attention.wake();
  }

  onQueueUsage(usage: number): void {
    const isFilling = usage >= QUEUE_LEVEL;
    if (isFilling === this.#queueIsFilling) return;
    this.#queueIsFilling = isFilling;
    this.#options.notify('notificationQueue', { usage, isFilling });
    if (isFilling) this.#stopTaking();
  }

  /** With the lock: returns whether the reader could fall asleep, or has to turn back. */
  async #fallAsleep(signal: AbortSignal): Promise<boolean> {
    const { passes, writeRate, notify } = this.#options;
    this.#phase = 'turning';
    const { last, count } = await passes.readPage();
    writeRate.add(count);
    if (!last || writeRate.isBusy) return false;
    await this.#markerArrives(signal);
    if (signal.aborted || this.#phase !== 'turning' || this.#options.mayNotSleep?.()) return false;
    this.#phase = 'asleep';
    notify('asleep');
    this.#takeHeld();
    return true;
  }

  /** A pass over the log, with the lock. */
  async #look(): Promise<void> {
    const { passes, writeRate } = this.#options;
    if (!passes.hasRoom) return this.#stopTaking();
    const { last, count } = await passes.readPage();
    if (this.#phase !== 'looking') return;
    // Another transaction has notified meanwhile.
    const isCrowded = this.#held.length > 0;
    writeRate.addNotified(count, isCrowded);
    if (!last || writeRate.isBusy) return this.#stopTaking();
    this.#phase = 'asleep';
    this.#takeHeld();
  }

  /** Those that follow a "look" need not be taken: the next pass reads them. */
  #takeHeld(): void {
    const held = this.#held;
    this.#held = [];
    for (const announcement of held) this.#take(announcement);
  }

  async #tryLock(): Promise<boolean> {
    const { session, names } = this.#options;
    this.#marker = randomUUID();
    const message = encodeNodeMessage({ kind: 'marker', marker: this.#marker });
    const values = [names.sleepKey, names.nodeChannel, message, QUEUE_LEVEL];
    try {
      const [attempt] = await session.query<{ usage: number; locked: boolean }>(tryLock, values);
      this.#locked = attempt!.locked;
      this.onQueueUsage(attempt!.usage);
    } catch (error) {
      if (!isQueueFull(error)) throw error;
      // The queue was filled within the statement. An advisory lock of the session outlives the transaction that took it.
      this.#locked = true;
      this.onQueueUsage(1);
      await this.wakeUp();
    }
    return this.#locked;
  }

  /** Returns early when the reader has to turn back. @throws {PostgresInputError} ERR_CONNECTION_LOST */
  async #markerArrives(signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + this.#options.markerTimeout;
    while (this.#marker !== null && this.#phase === 'turning' && !signal.aborted) {
      const left = deadline - performance.now();
      if (left > 0) await this.#attention.wait(left, signal);
      // If the process was frozen, the marker may have arrived and wait to be read.
      else await setImmediate();
      if (left <= 0 && this.#marker !== null && this.#phase === 'turning')
        throw connectionLost(new Error('notifications no longer arrive'));
    }
  }

  #take(announcement: Announcement): void {
    if (this.#phase !== 'asleep') return;
    const { passes, writeRate, readsAsleep } = this.#options;
    if (announcement.kind === 'look') {
      if (!readsAsleep) return this.#stopTaking();
      this.#phase = 'looking';
      return this.#attention.wake();
    }
    const { changes, xid, crowded } = announcement;
    const taken = passes.takeNotified(changes, xid);
    if (taken === null) return this.#stopTaking();
    writeRate.addNotified(taken, crowded);
    if (writeRate.isBusy) return this.#stopTaking();
    if (passes.remembered < MAX_REMEMBERED) return;
    this.#phase = 'looking';
    this.#attention.wake();
  }

  #stopTaking(): void {
    if (this.#isAsleep) this.#options.notify('awake');
    this.#phase = 'awake';
    this.#attention.wake();
  }
}
