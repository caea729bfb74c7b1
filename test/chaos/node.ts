/** A node of the cluster under test: an input and a consumer, in a process of their own. */
import { openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import {
  type ChangeEvent,
  type PostgresInput,
  PostgresInputError,
  newPostgresInput,
} from '../../src/index.ts';
import { ATTEMPTS, INPUT_NAME, type NodeTask, type Report } from './protocol.ts';
import { watchForStalls } from './stalls.ts';
import { BOOK, CALLER } from './witness.ts';

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
        {
          schemas: task.schemas,
          lease: task.lease,
          discoveryInterval: 1000,
          rows: 'after',
          ...(task.wakeup && { wakeup: task.wakeup }),
        },
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

type Acknowledge = (input: PostgresInput, event: ChangeEvent) => Promise<string | null>;

async function consumeAtOnce(input: PostgresInput, acknowledge: Acknowledge): Promise<void> {
  const running = new Set<Promise<void>>();
  for await (const event of input.handle({ ack: 'manual', reconnect: task.reconnect })) {
    report({ kind: 'event', event, at: Date.now() });
    const job = finish(input, event, acknowledge).finally(() => running.delete(job));
    running.add(job);
    if (running.size >= WORKERS) await Promise.race(running);
  }
  await Promise.all(running);
}

async function finish(input: PostgresInput, event: ChangeEvent, acknowledge: Acknowledge): Promise<void> {
  await work();
  const sequence = event.sequence!;
  const token = event.fencingToken!;
  const code = await acknowledge(input, event);
  report({ kind: 'ack', sequence, token, code, at: Date.now() });
}

const acknowledgeHere: Acknowledge = (input, event) =>
  input.ack(event).then(
    () => null,
    (error: unknown) => {
      if (!(error instanceof PostgresInputError)) throw error;
      return error.code;
    },
  );

/** For how long a consumer tries to book an event, in milliseconds: longer than the server is away. */
const OBSTINACY = 10_000;

/**
 * Books the event in a transaction of the consumer's own. A consumer that loses its connection tries again with another one, although it
 * can't know whether the first transaction was committed: the event is as it was handed out, and the server may have gone back since.
 */
function booking(): {
  book: (input: PostgresInput, event: ChangeEvent) => Promise<void>;
  acknowledge: Acknowledge;
  end: () => Promise<void>;
} {
  const pool = new pg.Pool({
    connectionString: callersUrl(),
    max: WORKERS,
    connectionTimeoutMillis: 2000,
    query_timeout: 4000,
  });
  pool.on('error', () => {});
  // A client may hear of an error in the same turn in which it has connected, or after the pool has been given it back. Its next query rejects.
  pool.on('connect', (client) => client.on('error', () => {}));
  const book = async (input: PostgresInput, event: ChangeEvent): Promise<void> => {
    const client = await pool.connect();
    let isSound = false;
    try {
      await client.query('BEGIN');
      await client.query(BOOK, [
        event.sequence,
        event.fencingToken,
        new URL(task.url).searchParams.get('application_name'),
      ]);
      await input.ack(event, client);
      await client.query('COMMIT');
      isSound = true;
    } finally {
      client.release(!isSound);
    }
  };
  // As a consumer that has stored its events: numbers that the server has lost name other changes by then.
  const refused: ChangeEvent[] = [];
  const bookLate = async (input: PostgresInput): Promise<void> => {
    const event = refused[Math.floor(Math.random() * refused.length)];
    if (event) await book(input, event).catch(() => {});
  };
  return {
    book,
    async acknowledge(input, event) {
      let isInDoubt = false;
      for (const deadline = Date.now() + OBSTINACY; Date.now() < deadline; await delay(50)) {
        try {
          await book(input, event);
          await bookLate(input);
          return null;
        } catch (error) {
          if ((error as PostgresInputError).code === 'ERR_LEASE_LOST') {
            refused.push(event);
            return isInDoubt ? 'in doubt' : 'ERR_LEASE_LOST';
          }
          isInDoubt = true;
        }
      }
      return 'in doubt';
    },
    end: () => pool.end(),
  };
}

/** By the change's number, so that the same changes fail on every node. Most numbers are multiples of 1000: a prime finds some of them. */
const isDoomed = (event: ChangeEvent): boolean => BigInt(event.sequence!.slice(0, -16)) % 149n === 0n;

let isCalm = task.calm;

/** A handler that may fail, hang or kill its process. */
async function misbehave(event: ChangeEvent, signal: AbortSignal): Promise<void> {
  await work();
  if (task.consumer === 'process' && isDoomed(event)) throw new Error('doomed');
  if (isCalm) return;
  const chance = Math.random();
  if (chance < 0.03) throw new Error('bad luck');
  if (chance < 0.034) {
    report({ kind: 'hangs', sequence: event.sequence!, token: event.fencingToken!, at: Date.now() });
    await delay(Math.random() * 3 * task.lease.duration!, undefined, { signal });
  } else if (chance < 0.035) {
    report({ kind: 'dies', at: Date.now() });
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => {}); // the signal is on its way
  }
}

async function consumeByHandler(
  input: PostgresInput,
  settle: (event: ChangeEvent) => Promise<void>,
): Promise<void> {
  const handle = async (event: ChangeEvent, { signal }: { signal: AbortSignal }) => {
    report({ kind: 'event', event, at: Date.now() });
    const { sequence, fencingToken, attempt } = event;
    const done = (error: string | null, isCounted: boolean) =>
      report({
        kind: 'handled',
        sequence: sequence!,
        token: fencingToken!,
        attempt,
        error,
        isCounted,
        at: Date.now(),
      });
    try {
      await misbehave(event, signal);
      await settle(event);
      done(null, false);
    } catch (error) {
      // A lost lease or connection of the package's own says nothing of the event.
      done(String(error), !(error instanceof PostgresInputError));
      throw error;
    }
  };
  const attempts = task.consumer === 'process' ? ATTEMPTS : Infinity;
  await input.process(handle, {
    reconnect: task.reconnect,
    concurrency: WORKERS,
    retry: { attempts, minDelay: 20, maxDelay: 200 },
  });
}

function callersUrl(): string {
  const url = new URL(task.url);
  url.searchParams.set('application_name', `${url.searchParams.get('application_name')}${CALLER}`);
  return url.href;
}

watchForStalls((from, to) => tell({ kind: 'stall', from, to }));
process.on('message', () => {
  isCalm = true;
  tell({ kind: 'calm' });
});
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
  if (task.consumer === 'auto') {
    await consumeInTurn(input);
  } else if (task.consumer === 'manual') {
    await consumeAtOnce(input, acknowledgeHere);
  } else if (task.consumer === 'process') {
    await consumeByHandler(input, async () => {});
  } else {
    const { book, acknowledge, end } = booking();
    if (task.consumer === 'transaction') await consumeAtOnce(input, acknowledge);
    else await consumeByHandler(input, (event) => book(input, event));
    await end();
  }
} catch (error) {
  const { code, message } = error as PostgresInputError;
  tell({ kind: 'failed', where: 'handle', code, message, at: Date.now() });
}
tell({ kind: 'ended' });
process.disconnect(); // and nothing else: an input that is closed keeps no process alive
