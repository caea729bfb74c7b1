/** An event whose handler kills its process does not stop the cluster for ever. */
import { expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';
import type { KilledReport, KilledSetup } from '../support/killed-node.ts';
import { type NodeProcess, spawnNode } from '../support/processes.ts';

const ROWS = 40;
const KILLER = '17';

test.concurrent.each([
  ['create', 'exit', 8],
  ['create', 'memory', 8],
  ['create', 'loop', 8],
  ['read', 'exit', 1],
] as const)(
  'a handler that kills at a %s by %s, %i at once, is found and its event parked, and no other',
  async (operation, by, concurrency) => {
    await using database = await createDatabase();
    await database.query('CREATE TABLE items (id int PRIMARY KEY)');
    const config = { name: 'test', type: 'postgres', connectionString: database.url };
    const insert = `INSERT INTO items SELECT n FROM generate_series(1, ${ROWS}) n`;
    if (operation === 'read') await database.query(insert);
    await using input = await newPostgresInput(config, PATIENT);
    const setup: KilledSetup = { url: database.url, killer: KILLER, by, concurrency };
    const nodes: NodeProcess<KilledReport>[] = [];
    const begun: string[] = [];
    const ended = new Set<string>();
    let deaths = 0;
    const parked = await new Promise<string>((resolve, reject) => {
      const start = () => {
        const node = spawnNode<KilledReport>(new URL('../support/killed-node.ts', import.meta.url), {
          args: [JSON.stringify(setup)],
          env: by === 'memory' ? { NODE_OPTIONS: '--max-old-space-size=128' } : {},
        });
        nodes.push(node);
        void follow(node).catch(reject);
        if (by !== 'loop') void node.exited.then(() => ++deaths < 20 && start());
      };
      const follow = async (node: NodeProcess<KilledReport>) => {
        for await (const { is, id } of node.messages) {
          if (is === 'active' && nodes.length === 1 && operation === 'create') await database.query(insert);
          if (is === 'active' && nodes.length === 1 && operation === 'read') await input.backfill();
          if (is === 'begun') begun.push(id);
          if (is === 'ended') ended.add(id);
          if (is === 'parked') resolve(id);
          // A node that blocks stays.
          if (by === 'loop' && is === 'begun' && id === KILLER) start();
        }
      };
      start();
    });
    expect(parked).toBe(KILLER);
    expect(begun.filter((id) => id === KILLER).length).toBeLessThanOrEqual(6);
    // The others are handled.
    const last = nodes.at(-1)!;
    while (ended.size < ROWS - 1) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await input.parked()).toMatchObject([
      { operation, id: KILLER, error: expect.stringContaining('5 times in a row') },
    ]);
    deaths = Infinity;
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    expect(last).toBeDefined();
  },
  120_000,
);
