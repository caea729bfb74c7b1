/** What the logger gets: each lifecycle event as a level, fields and a sentence. This is the one place that puts them into words. */
import { inspect } from 'node:util';
import { redact, withoutSecrets } from '../api/errors.ts';
import type { LifecycleEvents, LifecycleNotice } from '../api/lifecycle-events.ts';
import type { Logger } from '../api/options.ts';

type Level = 'debug' | 'info' | 'warn' | 'error';
type Line = readonly [level: Level, text: string, fields?: object];

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

const LINES: { readonly [Name in keyof LifecycleEvents]: (...args: LifecycleEvents[Name]) => Line } = {
  standby: () => ['info', 'waits for the lease'],
  polling: () => ['info', 'polls: no notification wakes it up'],
  active: ({ fencingToken }) => ['info', 'holds the lease: this node is active', { fencingToken }],
  idle: () => ['info', 'has stopped handling'],
  closed: () => ['info', 'is closed'],
  asleep: () => ['debug', 'is asleep: the reader waits for notifications'],
  awake: () => ['debug', 'is awake: the reader reads the change log'],
  notificationQueue: ({ usage, isFilling }) =>
    isFilling
      ? [
          'warn',
          "finds the server's notification queue filling: some session that listens has had a transaction open for long",
          { usage },
        ]
      : ['info', "finds room in the server's notification queue again", { usage }],
  sequenceReset: ({ repaired }) =>
    repaired
      ? ['warn', "finds the log's sequence put right, which somebody had set"]
      : [
          'error',
          "finds the log's sequence set by somebody, and may not put it right: statements of the application may fail",
        ],
  installed: ({ watched, unwatchable, pending, ...remarks }) => [
    unwatchable.length + pending.length + Object.keys(remarks).length > 0 ? 'warn' : 'info',
    `watches ${count(watched.length, 'table')}${unwatchable.length + pending.length > 0 ? ', and leaves some out' : ''}`,
    { watched: watched.length, unwatchable, pending, ...remarks },
  ],
  optionsDiffer: (differences) => [
    'warn',
    'finds that another node installed with other options',
    { differences },
  ],
  discoveryFailed: (err) => ['warn', 'could not look after the triggers, and tries again', { err }],
  reconnecting: ({ error, attempt, delay }) => [
    'warn',
    `lost its place among the nodes, and tries to join again in ${Math.round(delay)} ms`,
    { err: error, attempt, delay },
  ],
  retrying: ({ error, ...failure }) => [
    'warn',
    'could not process an event, and tries it again',
    { ...failure, err: error },
  ],
  parked: ({ error, ...failure }) => [
    'error',
    'parked an event: it waits until it is redriven or discarded',
    { ...failure, err: error },
  ],
  conditionFailed: (condition) => [
    'warn',
    'reads changes that are events because the condition when of their table has failed',
    condition,
  ],
  backfillFailed: ({ error, ...failure }) => [
    'error',
    'can not read a table, and cancelled its backfill: its other rows do not come',
    { ...failure, err: error },
  ],
  slow: (event) => ['warn', 'waits for an event that has been in hand for long', event],
  // Anybody may send notifications, as often as they like.
  forged: () => ['debug', 'skipped a notification that claims to be of our triggers'],
  ignored: () => ['debug', 'skipped a notification that is not of our triggers'],
};

/** A handler may fail with anything. Of an object that is no error, only its text can be searched for secrets. */
const asText = (failure: unknown): unknown =>
  typeof failure === 'object' && failure !== null && !(failure instanceof Error) ? inspect(failure) : failure;

export class Log {
  readonly #logger: Logger;
  readonly #input: string;
  readonly #secrets: readonly string[];

  /** `secrets`: what no line may show. */
  constructor(logger: Logger, input: string, secrets: readonly string[]) {
    this.#logger = logger;
    this.#input = input;
    this.#secrets = secrets;
  }

  /** Returns what the logger returns, which may be a promise. */
  tell([name, ...args]: LifecycleNotice): unknown {
    const [level, text, fields] = (LINES[name] as (...args: readonly unknown[]) => Line)(...args);
    const safe = Object.entries(fields ?? {}).map(([field, value]) => [
      field,
      field === 'err' ? withoutSecrets(asText(value), this.#secrets) : value,
    ]);
    return this.#logger[level](
      { input: this.#input, ...Object.fromEntries(safe) },
      redact(text, this.#secrets),
    );
  }
}
