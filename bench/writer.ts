/** The writing application, a process of its own: does the work it is told to, and says what it did. */
import { setTimeout as delay } from 'node:timers/promises';
import { clock } from './clock.ts';
import { tableNames } from './tables.ts';
import { WireClient, execute, prepare, simpleQuery } from './wire.ts';

export interface WriteJob {
  url: string;
  clients: number;
  /** Single-row inserts per transaction. */
  statements: number;
  /** Milliseconds; of a swinging load, per phase. */
  duration: number;
  /** Changes per second over all clients; none: as many as go. */
  rate?: number;
  /** Writes to so many tables in turn: `item`, `item_2` and so on. Default: 1. */
  tables?: number;
  /** This many times: writes for `duration`, pauses for `pause`. */
  swings?: { times: number; pause: number };
  /** The first row's id. */
  firstId: number;
}

export interface WriteResult {
  /** Rows committed: firstId and those after it. */
  rows: number;
  /** Per second, after the warm-up. */
  rate: number;
  /** Milliseconds per statement (or transaction), ascending. */
  latencies: number[];
  /** By place from firstId: when the INSERT was sent, and when it was done. */
  sentAt: number[];
  doneAt: number[];
}

/** Milliseconds that a load without a fixed rate goes on before it is measured. */
const WARM_UP = 500;

async function write(job: WriteJob): Promise<WriteResult> {
  const tables = tableNames(job.tables);
  const clients = await Promise.all(
    Array.from({ length: job.clients }, async () => {
      const client = await WireClient.connect(job.url);
      for (const table of tables)
        await client.send(prepare(`insert_${table}`, `INSERT INTO ${table} (id) VALUES ($1)`));
      return client;
    }),
  );
  const sentAt: number[] = [];
  const doneAt: number[] = [];
  const latencies: number[] = [];
  let rows = 0;

  async function transaction(client: WireClient): Promise<void> {
    const first = rows;
    rows += job.statements;
    const began = clock();
    if (job.statements > 1) await client.send(simpleQuery('BEGIN'));
    for (let n = first; n < first + job.statements; n++) {
      sentAt[n] = clock();
      await client.send(execute(`insert_${tables[n % tables.length]}`, String(job.firstId + n)));
    }
    if (job.statements > 1) await client.send(simpleQuery('COMMIT'));
    const done = clock();
    for (let n = first; n < first + job.statements; n++) doneAt[n] = done;
    latencies.push(done - began);
  }

  async function flatOut(duration: number): Promise<void> {
    const end = clock() + duration;
    await Promise.all(
      clients.map(async (client) => {
        while (clock() < end) await transaction(client);
      }),
    );
  }

  /** Starts at fixed times, whether or not those before are done; a client that is free takes the next. */
  async function atRate(rate: number, duration: number): Promise<void> {
    const idle = [...clients];
    const pending = new Set<Promise<void>>();
    const began = clock();
    for (let n = 0; ;) {
      const now = clock() - began;
      if (now >= duration) break;
      while (idle.length > 0 && n < (now * rate) / 1000) {
        const client = idle.pop()!;
        n++;
        const run = transaction(client);
        pending.add(run);
        void run.finally(() => {
          idle.push(client);
          pending.delete(run);
        });
      }
      await (rate > 500 ? new Promise((resolve) => setImmediate(resolve)) : delay(1));
    }
    await Promise.all(pending);
  }

  // Backends that have just begun have empty caches and no plans.
  if (job.rate === undefined) await flatOut(WARM_UP);
  const warm = rows;
  const { times, pause } = job.swings ?? { times: 1, pause: 0 };
  let elapsed = 0;
  for (let n = 0; n < times; n++) {
    if (n > 0) await delay(pause);
    const began = clock();
    await (job.rate === undefined ? flatOut(job.duration) : atRate(job.rate, job.duration));
    elapsed += clock() - began;
  }
  for (const client of clients) client.end();
  const rate = ((rows - warm) / elapsed) * 1000;
  return { rows, rate, latencies: latencies.toSorted((a, b) => a - b), sentAt, doneAt };
}

process.on('message', (job: WriteJob) => {
  write(job).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
process.send!({ result: null });
