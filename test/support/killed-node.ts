/** A node whose handler kills its process, or blocks it, at the event of one row. It tells which events it has begun and ended. */
import { newPostgresInput } from '../../src/index.ts';

export interface KilledSetup {
  url: string;
  killer: string;
  by: 'exit' | 'memory' | 'loop';
  concurrency: number;
}
export type KilledReport = { is: 'active' | 'parked' | 'begun' | 'ended'; id: string };

const setup = JSON.parse(process.argv[2]!) as KilledSetup;
/** It has to be on its way before the process dies. */
const report = (message: KilledReport) =>
  new Promise<void>((resolve) => void process.send!(message, () => resolve()));
const input = await newPostgresInput(
  { name: 'test', type: 'postgres', connectionString: setup.url },
  { connectTimeout: 15_000, lease: { duration: 1500, renewInterval: 300, margin: 300, pollInterval: 50 } },
);
input.on('active', () => void report({ is: 'active', id: '' }));
input.on('parked', ({ id }) => void report({ is: 'parked', id }));

function die(): never {
  const hoard: number[][] = [];
  for (;;) {
    if (setup.by === 'exit') process.exit(1);
    if (setup.by === 'memory') hoard.push(Array.from({ length: 10_000 }, () => Math.random()));
  }
}

await input.process(
  async ({ id }) => {
    await report({ is: 'begun', id });
    if (id === setup.killer) die();
    await report({ is: 'ended', id });
  },
  { concurrency: setup.concurrency },
);
