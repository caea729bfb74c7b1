/**
 * Does the jobs that fan-out.ts adds. A job is added once, and its effect happens once because it is keyed by the change's sequence: a worker that is
 * killed has perhaps done its work, and another worker does the job again.
 *
 * graphile-worker itself leaves two things open, and the order of a row needs both:
 *
 * - A job that throws makes way for the next job of its queue, and comes later. So a job that fails is tried again right here, while its queue waits.
 * - The jobs and queues of a worker that was killed stay locked for four hours. So each worker holds an advisory lock for as long as it lives, and unlocks
 *   the jobs of any worker whose lock is free.
 */
import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ChangeEvent } from 'dapper-postgres-input';
import { Logger, type WorkerEvents, run } from 'graphile-worker';
import pg from 'pg';

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
pool.on('connect', (client) => client.on('error', () => {})); // A connection in use was lost, and its query rejects.

const life = new pg.Client({ connectionString, keepAlive: true });
life.on('error', die).on('end', die); // Without the lock, others do its jobs.
await life.connect();

const events: WorkerEvents = new EventEmitter();
events.once('pool:create', ({ workerPool }) => {
  life.query('SELECT pg_advisory_lock(hashtext($1))', [workerPool.id]).catch(die);
});
const runner = await run({
  pgPool: pool,
  events,
  logger: new Logger(() => () => {}),
  concurrency: 4,
  noHandleSignals: true,
  taskList: { change: (payload) => untilDone(() => ship(payload as ChangeEvent)) },
});
const janitor = setInterval(() => void unlockJobsOfTheDead().catch(die), 1000);

process.once('SIGTERM', () => void stop());

async function stop(): Promise<void> {
  clearInterval(janitor);
  // After five seconds graphile-worker would let jobs fail. A job that is left locked keeps its place in its queue.
  await Promise.race([runner.stop(), delay(4000)]);
  process.exit();
}

async function ship({ sequence, id }: ChangeEvent): Promise<void> {
  await pool.query(
    'INSERT INTO shipments (sequence, order_id) VALUES ($1, $2) ON CONFLICT (sequence) DO NOTHING',
    [sequence, id],
  );
}

async function untilDone(work: () => Promise<void>): Promise<void> {
  for (let wait = 100; ; wait = Math.min(2 * wait, 10_000)) {
    try {
      return await work();
    } catch (error) {
      console.error(`${String(error)}; trying again in ${wait} ms`);
    }
    await delay(wait);
  }
}

/** A worker that has just started may not have its lock yet: what was locked a moment ago is left alone. */
async function unlockJobsOfTheDead(): Promise<void> {
  await pool.query(`
    SELECT graphile_worker.force_unlock_workers(array_agg(worker))
    FROM (SELECT DISTINCT locked_by AS worker FROM graphile_worker.jobs WHERE locked_at < now() - interval '5 seconds') locked
    WHERE pg_try_advisory_xact_lock(hashtext(worker))`);
}

function die(error?: Error): never {
  console.error(error ?? 'the connection was closed');
  process.exit(1);
}
