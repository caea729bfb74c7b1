/** A node of the cluster under test: an input and a consumer, in a process of their own. */
import { openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type ChangeEvent,
  type PostgresInput,
  PostgresInputError,
  newPostgresInput,
} from '../../src/index.ts';
import { INPUT_NAME, type NodeTask, type Report } from './protocol.ts';
import { watchForStalls } from './stalls.ts';

const task = JSON.parse(process.argv[2]!) as NodeTask;
const WORKERS = 8;

const journal = openSync(task.journal, 'a');

const report = (message: Report): void => void writeSync(journal, `${JSON.stringify(message)}\n`);

function tell(message: Report): void {
  report(message);
  if (process.connected) process.send!(message);
}

async function make(): Promise<PostgresInput> {
  for (;;) {
    try {
      return await newPostgresInput(
        { name: INPUT_NAME, type: 'postgres', connectionString: task.url },
        { schemas: task.schemas, lease: task.lease, discoveryInterval: 1000 },
      );
    } catch (error) {
      const { code, message } = error as PostgresInputError;
      tell({ kind: 'failed', where: 'constructor', code, message, at: Date.now() });
      await delay(100);
    }
  }
}

const work = (): Promise<void> | undefined => {
  // Often no time at all, so that much of the buffer is handed out in one turn of the event loop.
  if (task.work === 0 || Math.random() < 0.5) return undefined;
  return delay(Math.random() * task.work);
};

async function consumeInTurn(input: PostgresInput): Promise<void> {
  for await (const event of input.handle({ reconnect: task.reconnect })) {
    report({ kind: 'event', event, at: Date.now() });
    const busy = work();
    if (busy) await busy;
  }
}

async function consumeAtOnce(input: PostgresInput): Promise<void> {
  const running = new Set<Promise<void>>();
  for await (const event of input.handle({ ack: 'manual', reconnect: task.reconnect })) {
    report({ kind: 'event', event, at: Date.now() });
    const job = finish(input, event).finally(() => running.delete(job));
    running.add(job);
    if (running.size >= WORKERS) await Promise.race(running);
  }
  await Promise.all(running);
}

async function finish(input: PostgresInput, event: ChangeEvent): Promise<void> {
  await work();
  const sequence = event.sequence!;
  const token = event.fencingToken!;
  try {
    await input.ack(event);
    report({ kind: 'ack', sequence, token, code: null });
  } catch (error) {
    if (!(error instanceof PostgresInputError)) throw error;
    report({ kind: 'ack', sequence, token, code: error.code });
  }
}

watchForStalls((from, to) => tell({ kind: 'stall', from, to }));
const input = await make();
// On every one: a second must not kill the process while it ends.
process.on('SIGTERM', () => void input.close());
const state = (token: string | null) => tell({ kind: 'state', state: input.state, token, at: Date.now() });
input.on('standby', () => state(null));
input.on('active', ({ fencingToken }) => state(fencingToken));
input.on('reconnecting', ({ error: { code, message } }) =>
  tell({ kind: 'reconnecting', code, message, at: Date.now() }),
);
try {
  await (task.ack === 'auto' ? consumeInTurn(input) : consumeAtOnce(input));
} catch (error) {
  const { code, message } = error as PostgresInputError;
  tell({ kind: 'failed', where: 'handle', code, message, at: Date.now() });
}
tell({ kind: 'ended' });
process.disconnect(); // and nothing else: an input that is closed keeps no process alive
