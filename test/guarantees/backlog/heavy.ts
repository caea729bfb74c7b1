/** Drains a backlog of long texts with a consumer that is slow at first, and says what it cost in memory. */
import { setTimeout as delay } from 'node:timers/promises';
import { newPostgresInput } from '../../../src/index.ts';

export interface HeavyTask {
  readonly url: string;
  readonly events: number;
  /** How many events the consumer takes a millisecond each for. */
  readonly slow: number;
  /** Whether the texts are rows, not ids. */
  readonly rows?: boolean;
}

export interface HeavyDrained {
  /** How many characters all ids had, or the columns `text` of all rows. */
  readonly characters: number;
  /** Bytes above what there was when the input became active. */
  readonly rssGrowth: number;
}

const task = JSON.parse(process.argv[2]!) as HeavyTask;
const input = await newPostgresInput(
  { name: 'backlog', type: 'postgres', connectionString: task.url },
  { connectTimeout: 5000, rows: task.rows ? 'both' : 'none' },
);
let start = 0;
let rssGrowth = 0;
input.once('active', () => (start = process.memoryUsage.rss()));
const sampling = setInterval(() => {
  if (start > 0) rssGrowth = Math.max(rssGrowth, process.memoryUsage.rss() - start);
}, 5);

let events = 0;
let characters = 0;
for await (const { id, after } of input.handle()) {
  events++;
  characters += (task.rows ? (after!['text'] as string) : id).length;
  if (events <= task.slow) await delay(1);
  if (events === task.events) void input.close();
}
clearInterval(sampling);
const drained: HeavyDrained = { characters, rssGrowth };
process.send!(drained);
process.disconnect();
