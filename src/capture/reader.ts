/**
 * The reader: brings the active node's changes to its sink, from the change log while the database is busy, and from
 * notifications while it is quiet.
 *
 *            the log is read to its end, and the writers are quiet
 *   awake --------------------------------------------------------> asleep
 *         <--------------------------------------------------------
 *            the writers are busy, the sink is full, a notification says "look",
 *            or the server's notification queue fills up
 *
 * A node that polls stays awake (polling.ts).
 *
 * Awake, it reads the log in passes (passes.ts), and writers do not notify. Asleep, it asks nothing and takes what the
 * writers notify of. How it changes from one to the other without loss or repetition is told in sleeping.ts.
 *
 * It trusts the log alone. A forged notification is not believed, but at most once a second it makes the reader look. One that is sent a second time tells of a transaction that
 * was read, or of a sequence that was seen. A notification without a sequence is somebody's own: it is in no log, and is
 * handed out in either state.
 *
 * Losing a notification costs nothing but time, except when the listener is deaf without knowing: the marker that is sent with
 * every attempt to fall asleep finds that out, and the term fails.
 */
import type { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import type { Signature } from '../schema/wire-format.ts';
import type { Hold } from './acknowledgements.ts';
import type { Backfills } from './backfills.ts';
import { drawn } from './change-log-sql.ts';
import { ChangeLog } from './change-log.ts';
import type { Change } from './change.ts';
import { LogSequence } from './log-sequence.ts';
import { readPayload } from './notification.ts';
import { PAGE, Passes } from './passes.ts';
import { Polling } from './polling.ts';
import { Redriven } from './redriven.ts';
import { shapesFor } from './row-shapes.ts';
import type { Sink } from './sink.ts';
import { type Rest, Sleeping } from './sleeping.ts';
import { WriteRate } from './write-rate.ts';

/** How many events made by hand the sink may hold above its capacity. There is no log that could keep them. */
const MAX_FOREIGN = 10_000;
/** Until it looks again whether there is room for what was redriven, in milliseconds. */
const ROOM_PAUSE = 50;
/** How far apart two looks into the log are that forged notifications cause, in milliseconds. */
const FORGERY_PAUSE = 1000;

/** What the reader wants to know of the server with every renewal of the lease. */
export interface RenewalAnswer {
  /** The share of the notification queue that is in use. */
  readonly queueUsage: number;
  /** The highest sequence that the log's changes can have, as `drawn` (change-log-sql.ts) tells it. */
  readonly drawn: string;
}

export const askedAtRenewal = ({ logSequence }: Names): string =>
  `pg_notification_queue_usage()::float8 AS "queueUsage", ${drawn(logSequence)}::text AS drawn`;

export interface ReaderOptions {
  readonly session: Session;
  readonly names: Names;
  readonly sink: Sink;
  readonly hold: Hold;
  /** How our triggers sign their notifications. */
  readonly signature: Signature;
  /** Which sides of rows the input asks for. */
  readonly rows: 'none' | 'after' | 'both';
  readonly foreignNotifications: 'accept' | 'ignore';
  /** What our triggers notify of. */
  readonly notifications: 'changes' | 'bare';
  /** How long the marker may take; milliseconds. */
  readonly markerTimeout: number;
  readonly notify: Notify;
  /** Reads the rows that tables hold already, while the reader is awake. */
  readonly backfills?: Pick<Backfills, 'isReady' | 'keepAhead' | 'step' | 'end'>;
  /** Called for garbage on the channel. */
  readonly fail: (error: PostgresInputError) => void;
}

export class Reader {
  readonly #options: ReaderOptions;
  readonly #writeRate = new WriteRate();
  readonly #passes: Passes;
  readonly #sleeping: Rest;
  readonly #sequence: LogSequence;
  readonly redriven: Redriven;
  /** When a forged notification last made the reader look. */
  #forgeryLooked = -Infinity;
  /** The look that is put off because a forgery has just caused one. */
  #putOff: NodeJS.Timeout | undefined;

  constructor(options: ReaderOptions) {
    this.#options = options;
    const { session, names, sink, hold, notifications, markerTimeout, notify } = options;
    const shapes = shapesFor(options, session, names);
    const log = new ChangeLog(session, names, {
      shapes,
      hold,
      onConditionFailed: (table) => notify('conditionFailed', { table, statements: 1 }),
    });
    this.#sequence = new LogSequence(session, names, log, notify);
    const passes = new Passes(log, sink);
    this.#passes = passes;
    this.redriven = new Redriven(session, names, sink, shapes);
    this.#sleeping = session.isPooled
      ? new Polling()
      : new Sleeping({
          mayNotSleep: () => this.redriven.mayWait || (options.backfills?.isReady ?? false),
          session,
          names,
          passes,
          writeRate: this.#writeRate,
          readsAsleep: notifications === 'bare',
          markerTimeout,
          notify,
        });
  }

  /** Reads until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let pause = 0;
    try {
      while (!signal.aborted) {
        if (this.redriven.mayWait) await this.redriven.read(signal);
        const began = performance.now();
        const isAhead = this.#options.backfills?.keepAhead() ?? false;
        const found = isAhead ? 0 : await this.#passes.readAll(signal);
        if (found > 0) this.#writeRate.took(performance.now() - began);
        this.#writeRate.add(found);
        if (found < PAGE / 2 && (await this.#backfill(isAhead, signal))) continue;
        if (this.#writeRate.isQuiet && (await this.#sleeping.sleep(signal))) continue;
        if (found >= PAGE / 2) continue;
        const longest = this.redriven.mayWait ? ROOM_PAUSE : this.#sleeping.longestPause;
        pause = found > 0 ? this.#writeRate.pause : Math.min(2 * pause + 2, longest);
        await this.#sleeping.pause(pause, signal);
      }
    } finally {
      clearTimeout(this.#putOff);
      await this.#options.backfills?.end();
      await this.#sleeping.wakeUp().catch(() => {});
    }
  }

  /** A chunk of a backfill, behind a pass that ends at the chunk's snapshot. Returns whether there was one. */
  async #backfill(isAhead: boolean, signal: AbortSignal): Promise<boolean> {
    const { backfills, sink } = this.#options;
    if (!backfills || !(isAhead || (this.#passes.hasRoom && sink.roomApart >= PAGE))) return false;
    const passUpTo = async (snapshot: string) => {
      const found = await this.#passes.readAll(signal, snapshot);
      this.#writeRate.add(found);
      return found < PAGE / 2;
    };
    return backfills.step(passUpTo, signal);
  }

  /** To be called for every notification on the input's channel. */
  onNotification(text: string): void {
    const { signature, foreignNotifications, notify, fail } = this.#options;
    const payload = readPayload(text, signature);
    switch (payload.kind) {
      case 'changes':
      case 'look':
        this.#sleeping.onAnnouncement(payload);
        break;
      case 'forged':
        notify('forged');
        this.#lookBecauseOfForgery();
        break;
      case 'foreign':
        this.#onForeign(payload.change);
        break;
      case 'garbage':
        if (foreignNotifications === 'ignore') notify('ignored');
        else fail(payload.error);
    }
  }

  /** To be called when there is something to read beside what is announced: the reader wakes up, or ends its pause. */
  rouse(): void {
    this.#sleeping.rouse();
  }

  /** To be called when somebody may have redriven parked changes. */
  onRedriven(): void {
    this.redriven.notice();
    this.rouse();
  }

  /** To be called for every marker on the nodes' channel. */
  onMarker(marker: string): void {
    this.#sleeping.onMarker(marker);
  }

  /** To be called with the answer of every renewal of the lease. */
  async onRenewal({ queueUsage, drawn: allocated }: RenewalAnswer): Promise<void> {
    this.#sleeping.onQueueUsage(queueUsage);
    if (await this.#sequence.onAllocated(allocated)) this.#sleeping.onAnnouncement({ kind: 'look' });
  }

  /**
   * It may be authentic, if the secret is no longer the one that this term has read. Then it is the only sign of its change, so a look that comes
   * too soon is put off and not left out. Looking costs something: a forger could cause looks often.
   */
  #lookBecauseOfForgery(): void {
    const wait = this.#forgeryLooked + FORGERY_PAUSE - performance.now();
    clearTimeout(this.#putOff);
    if (wait > 0) {
      this.#putOff = setTimeout(() => this.#lookBecauseOfForgery(), wait).unref();
      return;
    }
    this.#forgeryLooked = performance.now();
    this.#sleeping.onAnnouncement({ kind: 'look' });
  }

  #onForeign(change: Change): void {
    const { sink, foreignNotifications, notify } = this.#options;
    if (this.#isInternal(change)) return;
    if (foreignNotifications === 'ignore' || sink.roomApart <= -MAX_FOREIGN) notify('ignored');
    else sink.push([change]);
  }

  /** Our own lock table is none of the user's, even if somebody notifies of it. */
  #isInternal({ location }: Change): boolean {
    const { lockTable, schema } = this.#options.names;
    return location === lockTable.name || location === `${schema}.${lockTable.name}`;
  }
}
