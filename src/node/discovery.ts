/**
 * Sees to it that the triggers are in place: when a node joins, when its term begins, and as long as the term lasts.
 *
 * The comparison of the catalog with what is wanted takes its time where there are many tables. So the active node asks for
 * no more than a fingerprint of the catalog, and compares only when that has changed; then on a connection of its own,
 * so that neither a renewal of the lease nor an acknowledgement waits for it. Where there are so many tables that the
 * fingerprint takes its time too, that is taken there as well. A comparison that fails is told and repeated: what is in place
 * goes on working. So is one that left a table unwatched or a step undone, at growing distances: what bars a node from a table, such as a
 * missing right, need not show in the fingerprint.
 *
 * A term looks at once: the node that was active before it may have been of an older version, or may have had other options.
 * A term ends when a newer version has been installed.
 */
import { isDeepStrictEqual } from 'node:util';
import { PostgresInputError } from '../api/errors.ts';
import type { Installation } from '../api/installation.ts';
import type { Notice, Notify } from '../api/lifecycle-events.ts';
import type { Settings } from '../config/settings.ts';
import type { Session } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { isBusy } from '../postgres/sqlstates.ts';
import { AttemptSpacing } from '../schema/attempt-spacing.ts';
import { catalogFingerprint, readOptions } from '../schema/catalog.ts';
import { install } from '../schema/install.ts';
import { NewerVersionError, RemovedError } from '../schema/migrations.ts';
import type { Names } from '../schema/names.ts';
import { type Planner, plan } from '../schema/plan.ts';
import { type Step, summaryOf } from '../schema/steps.ts';
import { optionsOf } from '../schema/stored-options.ts';
import { sessionOptions, withSession } from './connect.ts';

/** A fingerprint that takes longer than this is taken on a connection of its own; milliseconds. */
const LONG = 100;

/** Between two attempts to get at internal tables that are locked, in milliseconds. */
const RETRY = 1000;

/** How many looks may pass at most until tables that could not be watched, and steps that were refused, are tried again. */
const MAX_PATIENCE = 12;

export class Discovery {
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #notify: Notify;
  readonly #spacing = new AttemptSpacing();
  /** Of the catalog that was found in order; null when it was not. */
  #fingerprint: string | null = null;
  /** What a comparison has to tell beside `installed`. It is told afterwards, so that listeners know which comparison it belongs to. */
  #afterInstalled: Notice[] = [];
  /** Whether the fingerprint takes so long that the active node's other work must not wait for it. */
  #isLarge = false;
  /** Looks until tables that could not be watched, and steps that were refused, are tried again; doubled by every attempt. */
  #patience = 1;
  /** Whether a step that concerns no table failed in the last comparison. */
  #leavesSteps = false;
  /** How many of them are left; null when all tables are watched and no step is left. */
  #untilRetry: number | null = null;

  constructor(settings: Settings, names: Names, notify: Notify) {
    this.#settings = settings;
    this.#names = names;
    this.#notify = notify;
  }

  /**
   * Installs for a node that starts. Internal tables that are locked, as by a transaction that stays open for an hour, are tried
   * again and again: the node can do nothing without them.
   * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST; the reason of `signal` when that aborts first
   */
  async join(session: Session, planner: 'joining' | 'rejoining', signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        return await this.ensureInstalled(session, planner, signal);
      } catch (error) {
        const isRetried =
          error instanceof PostgresInputError && error.code === 'ERR_INSTALL' && error.retryable;
        if (!isRetried || error instanceof RemovedError || signal.aborted) throw error;
        this.#notify('discoveryFailed', error);
        await sleep(RETRY, signal);
      }
    }
  }

  /** Looks at once, then every `discoveryInterval`, until `signal` aborts. @throws {NewerVersionError | RemovedError} */
  async watch(session: Session, signal: AbortSignal): Promise<void> {
    let planner: Planner = 'claiming';
    while (!signal.aborted) {
      try {
        if (this.#untilRetry !== null) this.#untilRetry--;
        if (this.#isLarge || !(await this.#isInOrder(session, planner))) {
          await withSession(this.#settings, (own) => this.ensureInstalled(own, planner, signal), session);
        }
        planner = 'holding';
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof NewerVersionError || error instanceof RemovedError || session.isLost)
          throw error;
        // Whoever was told of the failure is told of its end too: a whole look says `installed`.
        this.#fingerprint = null;
        this.#notify('discoveryFailed', error);
      }
      await sleep(this.#settings.discoveryInterval, signal);
    }
  }

  /**
   * When `signal` aborts, a step that takes long is not waited for, such as one on a connection that fell silent: the session is
   * given up.
   * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST
   */
  async ensureInstalled(session: Session, planner: Planner, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const hurry = () => {
      timer = setTimeout(() => session.destroy(), sessionOptions(this.#settings).statementTimeout);
    };
    signal.throwIfAborted();
    signal.addEventListener('abort', hurry, { once: true });
    try {
      await this.#look(session, planner, signal);
    } finally {
      signal.removeEventListener('abort', hurry);
      clearTimeout(timer);
    }
  }

  get #isRetryDue(): boolean {
    return this.#untilRetry !== null && this.#untilRetry <= 0;
  }

  async #isInOrder(session: Session, planner: Planner): Promise<boolean> {
    if (this.#isRetryDue) return false;
    const fingerprint = await this.#takeFingerprint(session, session.timeout);
    if (fingerprint !== this.#fingerprint) return false;
    // The options of a node that joined and ended again do not show in the catalog.
    if (planner !== 'claiming' || !this.#settings.install) return true;
    const own = { installed: optionsOf(this.#settings), inForce: null };
    return isDeepStrictEqual(await readOptions(session, this.#names), own);
  }

  async #look(session: Session, planner: Planner, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    let fingerprint = await this.#takeFingerprint(session);
    this.#isLarge = performance.now() - began > LONG;
    if (fingerprint === this.#fingerprint && planner === 'holding' && !this.#isRetryDue) return;
    this.#leavesSteps = false;
    this.#afterInstalled = [];
    const { installation, isLeaving, wasChanged } = await this.#compare(session, planner, signal);
    let isInOrder = installation.pending.length === 0 && !isLeaving;
    if ((planner === 'joining' || planner === 'rejoining') && isInOrder && wasChanged) {
      // What a node that joins must leave in place is looked at when its term begins; as a rule there is nothing.
      fingerprint = await this.#takeFingerprint(session);
      isInOrder = (await plan(session, this.#settings, this.#names)).steps.length === 0;
    }
    const isWhole = installation.unwatchable.length === 0 && !this.#leavesSteps;
    this.#fingerprint = isInOrder ? fingerprint : null;
    this.#patience = isWhole ? 1 : Math.min(2 * this.#patience, MAX_PATIENCE);
    this.#untilRetry = isWhole ? null : this.#patience;
    this.#notify('installed', installation);
    for (const notice of this.#afterInstalled) this.#notify(...notice);
  }

  #takeFingerprint(session: Session, timeout?: number): Promise<string> {
    return catalogFingerprint(session, this.#settings.schemas, this.#names, timeout);
  }

  /** A step that concerns no table is no part of what `installed` tells. */
  #onUndone(step: Step, failure: Error): void {
    this.#leavesSteps = true;
    if (isBusy(failure)) return;
    const message = `${summaryOf(step)}: this step was refused (${failure.message}): it is tried again`;
    this.#afterInstalled.push([
      'discoveryFailed',
      new PostgresInputError('ERR_INSTALL', message, { cause: failure }),
    ]);
  }

  /** `isLeaving`: of the plan. `wasChanged`: there was something to install, so that the plan is out of date. */
  async #compare(
    session: Session,
    planner: Planner,
    signal: AbortSignal,
  ): Promise<{ installation: Installation; isLeaving: boolean; wasChanged: boolean }> {
    const found = await plan(session, this.#settings, this.#names, planner);
    const { steps, isLeaving, differences, watched, unwatchable, remarks } = found;
    if (differences.length > 0) this.#afterInstalled.push(['optionsDiffer', differences]);
    if (steps.length === 0)
      return {
        installation: { watched, unwatchable, pending: [], ...remarks },
        isLeaving,
        wasChanged: false,
      };
    if (this.#settings.install) {
      const spacing = this.#spacing;
      const installation = await install(session, this.#settings, this.#names, {
        planner,
        signal,
        spacing,
        onUndone: (step, failure) => this.#onUndone(step, failure),
      });
      return { installation, isLeaving, wasChanged: true };
    }
    if (steps.some((step) => step.essential)) {
      throw new PostgresInputError(
        'ERR_INSTALL',
        'the internal objects are missing or outdated, and the option install is false: have a DBA run the SQL ' +
          'that `plan` prints',
      );
    }
    return {
      installation: { watched, unwatchable, pending: steps.flatMap((step) => step.table ?? []), ...remarks },
      isLeaving,
      wasChanged: false,
    };
  }
}
