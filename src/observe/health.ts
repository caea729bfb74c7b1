/**
 * The health of a node, told at once from what the node knows.
 *
 * The node knows most of it from its lifecycle events. What waits, and what is parked, stands in the database. The active node looks there in the
 * background: when somebody asks for the health and the last look is older than LOOK_INTERVAL. The answer to that call has the facts of
 * the look before. So a node that nobody asks looks at nothing.
 *
 * A standby is `ok`: it takes its part by waiting, and the active node's health tells how the input does. An idle and a closed input are in `error`: a
 * process in which no handle() runs takes no part, and one that is ending is to get no more traffic.
 */
import { type PostgresInputError, messageOf, redact } from '../api/errors.ts';
import type { Installation, OptionDifference } from '../api/installation.ts';
import type { Notice } from '../api/lifecycle-events.ts';
import type { Health, HealthCheck, InputState, SharedMetrics } from '../api/status.ts';
import { PUBLICATION_ADVICE, publicationProblem } from '../schema/publications.ts';

/** Between the beginnings of two looks into the database, at least; milliseconds. */
const LOOK_INTERVAL = 10_000;
/** A look may take this share of the time: counting millions of changes takes seconds. */
const LOOK_SHARE = 0.1;
/** In seconds. If a change is older than this, its consumer does not keep up or has not acknowledged it. */
const OLD = 60;
/** For so long a condition or a backfill that has failed is told of; milliseconds. */
const FAILURE_MEMORY = 3_600_000;
/** A backlog grows if it was larger in each of so many looks than in the one before, and is no longer small. */
const GROWING_LOOKS = 3;
const SMALL_BACKLOG = 1000;

export interface HealthOptions {
  /** For how many milliseconds a node may be reconnecting until that is an error: by then another node has taken over. */
  readonly patience: number;
  /** Whether the node stores its own options when it joins. */
  readonly installs: boolean;
  /** How the node was asked to find out about changes. */
  readonly wakeup: 'auto' | 'notify' | 'poll';
  /** What no message may show. */
  readonly secrets: readonly string[];
  /** Looks into the database. Lets go when `signal` aborts. */
  readonly look: (signal: AbortSignal) => Promise<SharedMetrics>;
}

type Finding = readonly [status: HealthCheck['status'], message: string];
const ok = (message: string): Finding => ['ok', message];
const warn = (message: string): Finding => ['warn', message];
const error = (message: string): Finding => ['error', message];

export class NodeHealth {
  readonly #options: HealthOptions;
  /** The failure that ended the last iteration. */
  #ended: unknown = null;
  /** Why the node is reconnecting, and since when. */
  #away: { readonly error: PostgresInputError; readonly since: number } | null = null;
  #isPolling = false;
  #installation: Installation | null = null;
  #differences: readonly OptionDifference[] = [];
  #discoveryFailure: unknown = null;
  #queueUsage: number | null = null;
  #isSequenceWrong = false;
  /** The tables whose conditions have failed in the term: for how many statements, and when last. */
  readonly #conditions = new Map<string, { readonly statements: number; readonly last: number }>();
  /** The tables whose backfills have failed in the term: which one last, why, and when. */
  readonly #failedBackfills = new Map<
    string,
    { readonly backfill: bigint; readonly message: string; readonly last: number }
  >();
  /** The newest backfill that the term has done, by table: the later it was asked for, the greater its id. */
  readonly #doneBackfills = new Map<string, bigint>();
  /** The results of the term's last looks, the newest first. */
  #looks: SharedMetrics[] = [];
  #lookFailure: unknown = null;
  #looking: Promise<void> | null = null;
  readonly #open = new AbortController();
  #nextLook = -Infinity;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  hear(notice: Notice): void {
    switch (notice[0]) {
      case 'standby':
        this.#ended = null;
        this.#away = null;
        this.#forgetTerm();
        if (this.#options.installs) this.#differences = [];
        return;
      case 'active':
        this.#forgetTerm();
        return;
      case 'polling':
        this.#isPolling = true;
        return;
      case 'reconnecting':
        this.#isPolling = false;
        this.#away = { error: notice[1].error, since: this.#away?.since ?? performance.now() };
        return;
      case 'idle':
        this.#isPolling = false;
        this.#away = null;
        return;
      case 'installed':
        this.#installation = notice[1];
        this.#differences = [];
        this.#discoveryFailure = null;
        return;
      case 'optionsDiffer':
        this.#differences = notice[1];
        return;
      case 'discoveryFailed':
        this.#discoveryFailure = notice[1];
        return;
      case 'notificationQueue':
        this.#queueUsage = notice[1].isFilling ? notice[1].usage : null;
        return;
      case 'sequenceReset':
        this.#isSequenceWrong = !notice[1].repaired;
        return;
      case 'conditionFailed': {
        const { table, statements } = notice[1];
        const before = this.#conditions.get(table)?.statements ?? 0;
        this.#conditions.set(table, { statements: before + statements, last: performance.now() });
        return;
      }
      case 'backfillFailed': {
        const { backfill, table, error: failure } = notice[1];
        this.#failedBackfills.set(table, {
          backfill: BigInt(backfill),
          message: failure.message,
          last: performance.now(),
        });
        return;
      }
      case 'backfillDone': {
        const { backfill, table } = notice[1];
        if (BigInt(backfill) > this.#doneUpTo(table)) this.#doneBackfills.set(table, BigInt(backfill));
        return;
      }
      case 'parked':
        this.#nextLook = -Infinity;
        return;
      case 'retrying':
      case 'slow':
      case 'closed':
      case 'asleep':
      case 'awake':
      case 'forged':
      case 'ignored':
        return;
    }
  }

  /** The iteration has ended with this error; null: without one. */
  onEnd(failure: unknown): void {
    this.#ended = failure;
  }

  report(state: InputState): Health {
    if (state === 'active' && !this.#looking && performance.now() >= this.#nextLook)
      this.#looking = this.#look();
    const findings: Record<HealthCheck['name'], Finding> = {
      node: this.#node(state),
      connection: this.#connection(),
      wakeup: this.#wakeup(),
      installation: this.#installed(),
      tables: this.#tables(),
      conditions: this.#conditionsHold(),
      backfills: this.#backfillsGoOn(),
      options: this.#optionsAgree(),
      backlog: this.#backlog(state),
      parked: this.#parked(),
      sequence: this.#isSequenceWrong
        ? warn(
            "somebody has set the log's sequence, and this node's role may not put it right: statements of the application may fail; doctor tells what to run",
          )
        : ok('the log numbers its changes'),
      'notification queue':
        this.#queueUsage === null
          ? ok('it has room')
          : warn(
              `it is ${Math.round(100 * this.#queueUsage)} % full, and when it is full every NOTIFY in the cluster fails: end the session that listens and has had ` +
                'a transaction open for long (xact_start in pg_stat_activity)',
            ),
      publications: this.#publications(),
    };
    const checks = Object.entries(findings).map(([name, [status, message]]) => ({
      name: name as HealthCheck['name'],
      status,
      message: redact(message, this.#options.secrets),
    }));
    const has = (status: HealthCheck['status']) => checks.some((check) => check.status === status);
    return { status: has('error') ? 'error' : has('warn') ? 'warn' : 'ok', checks };
  }

  /** To be called when the input is closed. Cuts a look short, and resolves when that has let go. */
  async close(): Promise<void> {
    this.#open.abort();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const began = performance.now();
    try {
      const found = await this.#options.look(this.#open.signal);
      this.#looks = [found, ...this.#looks].slice(0, GROWING_LOOKS + 1);
      this.#lookFailure = null;
    } catch (failure) {
      this.#lookFailure = failure;
    }
    this.#looking = null;
    this.#nextLook = began + Math.max(LOOK_INTERVAL, (performance.now() - began) / LOOK_SHARE);
  }

  #forgetTerm(): void {
    this.#looks = [];
    this.#lookFailure = null;
    this.#nextLook = -Infinity;
    this.#queueUsage = null;
    this.#isSequenceWrong = false;
    this.#conditions.clear();
    this.#failedBackfills.clear();
    this.#doneBackfills.clear();
  }

  #doneUpTo(table: string): bigint {
    return this.#doneBackfills.get(table) ?? 0n;
  }

  #node(state: InputState): Finding {
    const ended =
      this.#ended === null
        ? 'no handle() has joined the nodes: call it, or wait until it has connected and installed'
        : `handle() has ended (${messageOf(this.#ended)}): call it again, with its option reconnect`;
    return {
      active: ok('this node is active'),
      standby: ok('this node stands by'),
      reconnecting: ok('this node joins again when it can'),
      closed: error('the input is closed: make a new one'),
      idle: error(ended),
    }[state];
  }

  /** A failure that has to do with the installation is told by the check of that. */
  #connection(): Finding {
    const failure = this.#away?.error ?? this.#ended;
    if (failure === null || isInstallation(failure)) return ok('nothing is known against it');
    if (!this.#away) return error(messageOf(failure));
    const away = performance.now() - this.#away.since;
    const message = `the node has been reconnecting for ${seconds(away / 1000)} (${messageOf(failure)}): see to the database and the way there`;
    return away > this.#options.patience ? error(message) : warn(message);
  }

  #wakeup(): Finding {
    const { wakeup } = this.#options;
    if (!this.#isPolling) return ok('notifications wake the node up');
    if (wakeup === 'poll') return ok('this node polls, as it was asked to');
    return warn(
      'this node polls, since its connection goes through a pooler in transaction mode: an event may come a second late, and another node ' +
        "takes over only when the lease expires; give it a direct listenConnectionString, or set wakeup: 'poll' if that will do",
    );
  }

  #installed(): Finding {
    const failure = this.#away?.error ?? this.#ended;
    if (isInstallation(failure)) return error(messageOf(failure));
    if (this.#discoveryFailure !== null)
      return warn(
        `looking after the triggers failed, and is tried again: ${messageOf(this.#discoveryFailure)}`,
      );
    return ok(this.#installation ? 'the triggers are looked after' : 'not looked at yet');
  }

  #tables(): Finding {
    const { watched = [], unwatchable = [], pending = [] } = this.#installation ?? {};
    const left = [
      ...unwatchable.map(({ table, reason }) => `${table} is not watched: ${reason}`),
      ...(pending.length > 0
        ? [
            `${pending.join(', ')} not watched yet: end the transaction that holds the lock, or have a DBA run what plan prints`,
          ]
        : []),
    ];
    return left.length > 0 ? warn(left.join('; ')) : ok(`${watched.length} watched`);
  }

  #conditionsHold(): Finding {
    const now = performance.now();
    const failed = [...this.#conditions].filter(([, { last }]) => now - last < FAILURE_MEMORY);
    if (failed.length === 0) return ok('none is known to have failed');
    const told = failed.map(
      ([table, { statements, last }]) =>
        `when of ${table} failed for ${statements} statements, the last ${seconds((now - last) / 1000)} ago`,
    );
    return warn(
      `${told.join('; ')}: their changes are events in any case; doctor tells the error, so correct the condition`,
    );
  }

  #backfillsGoOn(): Finding {
    const now = performance.now();
    const failed = [...this.#failedBackfills].filter(
      ([table, { backfill, last }]) => now - last < FAILURE_MEMORY && backfill > this.#doneUpTo(table),
    );
    if (failed.length === 0) return ok('none is known to have failed');
    return warn(failed.map(([, { message }]) => message).join('; '));
  }

  #optionsAgree(): Finding {
    if (this.#differences.length === 0) return ok('no other node is known to have others');
    const names = this.#differences.map(({ option }) => option).join(', ');
    return warn(
      `another node installed with other values of ${names}: unless a rolling deployment is under way, give all nodes the same options`,
    );
  }

  #backlog(state: InputState): Finding {
    if (state !== 'active') return ok('the active node looks at it');
    if (this.#lookFailure !== null) return warn(`it could not be read: ${messageOf(this.#lookFailure)}`);
    const [now] = this.#looks;
    if (!now) return ok('not looked at yet');
    const age = now.oldestAgeSeconds ?? 0;
    const waiting = `${now.backlog} not acknowledged, the oldest ${seconds(age)} old`;
    const advice =
      'the consumer does not keep up, or does not acknowledge what it has: look at its log, and let it work on more at once';
    if (age > OLD) return warn(`${waiting}; the limit is ${OLD} s: ${advice}`);
    const grows =
      this.#looks.length > GROWING_LOOKS &&
      this.#looks.every(({ backlog }, n) => n === 0 || backlog < this.#looks[n - 1]!.backlog);
    if (grows && now.backlog > SMALL_BACKLOG) return warn(`it grows: ${waiting}: ${advice}`);
    return ok(waiting);
  }

  #parked(): Finding {
    const parked = this.#looks[0]?.parked ?? 0;
    return parked === 0
      ? ok('none is known of')
      : warn(`${parked} parked: find out why with parked(), then redrive or discard them`);
  }

  #publications(): Finding {
    const names = this.#installation?.publishedBy ?? [];
    if (names.length === 0) return ok('none of all tables');
    return warn(`${names.map(publicationProblem).join('; ')}: ${PUBLICATION_ADVICE}`);
  }
}

const isInstallation = (failure: unknown): boolean =>
  (failure as { code?: unknown } | null)?.code === 'ERR_INSTALL';

const seconds = (n: number): string => `${n < 10 ? n.toFixed(1) : Math.round(n)} s`;
