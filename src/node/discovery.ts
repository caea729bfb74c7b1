/**
 * Sees to it that the triggers are in place: when a node starts, and as long as it is active.
 *
 * The comparison of the catalog with what is wanted takes its time where there are many tables. So the active node asks for
 * no more than a fingerprint of the catalog, and compares only when that has changed; then on a connection of its own,
 * so that neither a renewal of the lease nor an acknowledgement waits for it. Where there are so many tables that the
 * fingerprint takes its time too, that is taken there as well. A comparison that fails is told and repeated: what is in place
 * goes on working.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Installation } from '../api/installation.ts';
import type { Settings } from '../config/settings.ts';
import type { Session } from '../postgres/session.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { catalogFingerprint } from '../schema/catalog.ts';
import { install } from '../schema/install.ts';
import type { Names } from '../schema/names.ts';
import { plan } from '../schema/plan.ts';
import { sessionOptions, withSession } from './connect.ts';

export interface DiscoveryNotices {
  installed: (installation: Installation) => void;
  discoveryFailed: (error: unknown) => void;
}

/** A fingerprint that takes longer than this is taken on a connection of its own; milliseconds. */
const LONG = 100;

export class Discovery {
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #notices: DiscoveryNotices;
  /** Of the catalog that was found in order; null when it was not. */
  #fingerprint: string | null = null;
  /** Whether the fingerprint takes so long that the active node's other work must not wait for it. */
  #isLarge = false;

  constructor(settings: Settings, names: Names, notices: DiscoveryNotices) {
    this.#settings = settings;
    this.#names = names;
    this.#notices = notices;
  }

  /**
   * Whoever wants the end does not wait for a step that takes long, as one on a connection that fell silent does: the
   * session is given up.
   * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST
   */
  async ensureInstalled(session: Session, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const hurry = () => {
      timer = setTimeout(() => session.destroy(), sessionOptions(this.#settings).statementTimeout);
    };
    signal.throwIfAborted();
    signal.addEventListener('abort', hurry, { once: true });
    try {
      await this.#install(session, signal);
    } finally {
      signal.removeEventListener('abort', hurry);
      clearTimeout(timer);
    }
  }

  async #install(session: Session, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    const fingerprint = await catalogFingerprint(session, this.#settings.schemas, this.#names);
    this.#isLarge = performance.now() - began > LONG;
    if (fingerprint === this.#fingerprint) return;
    const installation = await this.#compare(session, signal);
    this.#fingerprint = installation.pending.length === 0 ? fingerprint : null;
    this.#notices.installed(installation);
  }

  /** Until `signal` aborts. */
  async watch(session: Session, signal: AbortSignal): Promise<void> {
    const pause = new Wakeup();
    for (;;) {
      await pause.wait(this.#settings.discoveryInterval, signal);
      if (signal.aborted) return;
      if (!this.#isLarge && (await this.#isUnchanged(session))) continue;
      try {
        await withSession(this.#settings, (own) => this.ensureInstalled(own, signal), [session.endpoint]);
      } catch (error) {
        if (signal.aborted) return;
        this.#notices.discoveryFailed(error);
      }
    }
  }

  async #isUnchanged(session: Session): Promise<boolean> {
    const { schemas } = this.#settings;
    return (await catalogFingerprint(session, schemas, this.#names, session.timeout)) === this.#fingerprint;
  }

  async #compare(session: Session, signal: AbortSignal): Promise<Installation> {
    const { steps, watched, unwatchable } = await plan(session, this.#settings, this.#names);
    if (steps.length === 0) return { watched, unwatchable, pending: [] };
    if (this.#settings.install) return install(session, this.#settings, this.#names, signal);
    if (steps.some((step) => step.essential)) {
      throw new PostgresInputError(
        'ERR_INSTALL',
        'the internal objects are missing or outdated, and the option install is false: have a DBA run the SQL ' +
          'that `plan` prints',
      );
    }
    return { watched, unwatchable, pending: steps.flatMap((step) => step.table ?? []) };
  }
}
