/**
 * Drains a backlog of rows that were each inserted, updated twice and deleted, and says what came of it: whether
 * everything came, once and in order, how fast, and what it cost in memory.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { newPostgresInput } from '../../../src/index.ts';

export interface DrainTask {
  readonly url: string;
  /** Rows, numbered from 1; each has four changes. */
  readonly rows: number;
  /** How many events the consumer takes a millisecond each for, before it runs free. */
  readonly slow: number;
}

export interface Drained {
  readonly events: number;
  /** Events that were not the next change of their row. */
  readonly outOfTurn: number;
  /** Rows whose last change has come. */
  readonly finished: number;
  /** Bytes above what there was when the input became active. */
  readonly rssGrowth: number;
  readonly heapGrowth: number;
  /** While it ran free. */
  readonly eventsPerSecond: number;
}

const OPERATIONS = ['create', 'update', 'update', 'delete'];

const task = JSON.parse(process.argv[2]!) as DrainTask;
const total = task.rows * OPERATIONS.length;
const changesSeen = new Uint8Array(task.rows + 1);
const input = await newPostgresInput(
  { name: 'backlog', type: 'postgres', connectionString: task.url },
  { connectTimeout: 5000 },
);

let start = process.memoryUsage();
const growth = { rss: 0, heap: 0 };
input.once('active', () => (start = process.memoryUsage()));
const sampling = setInterval(() => {
  const { rss, heapUsed } = process.memoryUsage();
  growth.rss = Math.max(growth.rss, rss - start.rss);
  growth.heap = Math.max(growth.heap, heapUsed - start.heapUsed);
}, 20);

let events = 0;
let outOfTurn = 0;
let free = 0;
for await (const { id, operation } of input.handle()) {
  events++;
  const row = Number(id);
  const seen = changesSeen[row] ?? 0;
  if (operation !== OPERATIONS[seen]) outOfTurn++;
  changesSeen[row] = seen + 1;
  if (events <= task.slow) await delay(1);
  if (events === task.slow) free = performance.now();
  // Whatever is handed out too often comes before the end too, all but the last page.
  if (events === total) void input.close();
}
clearInterval(sampling);
const drained: Drained = {
  events,
  outOfTurn,
  finished: changesSeen.filter((changes) => changes === OPERATIONS.length).length,
  rssGrowth: growth.rss,
  heapGrowth: growth.heap,
  eventsPerSecond: ((events - task.slow) * 1000) / (performance.now() - free),
};
process.send!(drained);
process.disconnect();
