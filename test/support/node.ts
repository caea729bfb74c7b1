/**
 * A node as a process of its own, for tests that freeze or kill one. It does what it is told by messages, and tells
 * what happens.
 */
import type * as Package from '../../src/index.ts';
import type { ChangeEvent, HandleOptions, PostgresInputOptions } from '../../src/index.ts';

export interface NodeSetup {
  url: string;
  /** Another version of this package, by its folder. */
  package?: string;
  name?: string;
  options?: PostgresInputOptions;
  handle?: Omit<HandleOptions, 'signal'>;
}

export type Command =
  /** Ask for the next event. */
  | { do: 'pull' }
  /** Take all events as they come. */
  | { do: 'consume' }
  | { do: 'ack'; event: ChangeEvent }
  | { do: 'abort' }
  | { do: 'close' }
  | { do: 'return' }
  /** Say nothing more, and exit once nothing is left to do. */
  | { do: 'leave' };

export type Report =
  | { is: 'standby' | 'active' | 'idle' | 'closed' | 'asleep' | 'awake' | 'reconnecting' }
  | { is: 'event'; event: ChangeEvent }
  | { is: 'ended'; error: string | null }
  | { is: 'acknowledged'; sequence: string | null; error: string | null }
  | { is: 'done'; command: Command['do'] };

const setup = JSON.parse(process.argv[2]!) as NodeSetup;
const { PostgresInputError, newPostgresInput }: typeof Package = await import(
  setup.package === undefined ? '../../src/index.ts' : `${setup.package}/dist/index.js`
);

const report = (message: Report): void => void process.send?.(message);
const nameOf = (error: unknown): string =>
  error instanceof PostgresInputError ? error.code : (error as Error).message;
const input = await newPostgresInput(
  { name: setup.name ?? 'test-input', type: 'postgres', connectionString: setup.url },
  { connectTimeout: 15_000, ...setup.options },
);
for (const is of ['standby', 'active', 'idle', 'closed', 'asleep', 'awake', 'reconnecting'] as const) {
  input.on(is, () => report({ is }));
}
const abort = new AbortController();
const events = input.handle({ ...setup.handle, signal: abort.signal });

async function pull(): Promise<boolean> {
  try {
    const { done, value } = await events.next();
    report(done ? { is: 'ended', error: null } : { is: 'event', event: value });
    return !done;
  } catch (error) {
    report({ is: 'ended', error: nameOf(error) });
    return false;
  }
}

async function acknowledge(event: ChangeEvent): Promise<void> {
  const error = await input.ack(event).then(() => null, nameOf);
  report({ is: 'acknowledged', sequence: event.sequence, error });
}

async function obey(command: Command): Promise<void> {
  switch (command.do) {
    case 'pull':
      await pull();
      break;
    case 'consume':
      while (await pull());
      break;
    case 'ack':
      await acknowledge(command.event);
      break;
    case 'abort':
      abort.abort(new Error('told to'));
      break;
    case 'close':
      await input.close();
      break;
    case 'return':
      await events.return?.();
      break;
    case 'leave':
      process.disconnect();
      return;
  }
  report({ is: 'done', command: command.do });
}

process.on('message', (command: Command) => void obey(command));
