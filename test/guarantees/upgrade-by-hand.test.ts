/** What docs/upgrading.md says of an upgrade that a DBA runs, and of going back to 0.1.0. */
import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { VERSION, versionLine } from '../../src/schema/migrations.ts';
import { setupCommands } from '../cli/commands.ts';
import { Consumer, reaches } from '../support/consumer.ts';
import { startNode } from '../support/node-process.ts';
import type { NodeSetup } from '../support/node.ts';
import { published, publishedCommand } from '../support/published.ts';

async function setup() {
  const command = await setupCommands();
  const { database } = command;
  const oldNode = async (options: NodeSetup['options'] = {}) => {
    const node = startNode({ url: database.url, name: 'x', package: await published('0.1.0'), options });
    onTestFinished(() => node[Symbol.asyncDispose]());
    return node;
  };
  const newNode = async (options: NodeSetup['options'] = {}) => {
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    const input = await newPostgresInput(config, { connectTimeout: 15_000, ...options });
    onTestFinished(() => input[Symbol.asyncDispose]());
    return input;
  };
  /** Of the functions that triggers call, those that this version made. Version 0.1.0 leaves functions that it does not know, and nothing calls them. */
  const functions = () =>
    database.query(
      `SELECT FROM pg_proc WHERE prorettype = 'pg_catalog.trigger'::regtype AND strpos(prosrc, $1) > 0`,
      [versionLine(VERSION)],
    );
  return { ...command, oldNode, newNode, functions };
}

test('the page tells the version of what is installed', async () => {
  const page = await readFile(new URL('../../docs/upgrading.md', import.meta.url), 'utf8');
  const [, version] = [...page.matchAll(/^\| \d+\.\d+\.\d+ +\| (\d+) +\|$/gm)].at(-1)!;
  expect(Number(version)).toBe(VERSION);
});

test('a DBA runs the new plan, the old nodes go on, and the new ones take over', async () => {
  const { database, run, oldNode, newNode, functions, installOld } = await setup();
  await installOld('x');
  const old = await oldNode({ install: false, discoveryInterval: 50 });
  await old.waitFor(({ is }) => is === 'active');
  const { out } = await run(['plan', '--name', 'x']);
  await database.query(out.replaceAll(/^\\set .*\n/gm, ''));
  expect(await functions()).not.toEqual([]);
  old.send({ do: 'consume' });
  for (const id of [1, 2]) {
    await database.query('INSERT INTO orders VALUES ($1)', [id]);
    await old.waitFor((report) => report.is === 'event' && report.event.id === `${id}`);
  }

  const next = await newNode({ install: false });
  const consumer = new Consumer(next);
  await reaches(next, 'standby');
  old.send({ do: 'close' });
  await reaches(next, 'active');
  await database.query('INSERT INTO orders VALUES (3)');
  await consumer.count(1);
  expect(consumer.ids).toEqual(['3']);
});

test('nodes of 0.1.0 take over from this version, and back', async () => {
  const { database, oldNode, newNode, functions } = await setup();
  const first = await newNode();
  const consumed = new Consumer(first);
  await reaches(first, 'active');
  const old = await oldNode();
  await old.waitFor(({ is }) => is === 'standby');
  await first.close();
  await consumed.ended;
  await old.waitFor(({ is }) => is === 'active');
  expect(await functions()).toEqual([]);
  await database.query('INSERT INTO orders VALUES (1)');
  old.send({ do: 'consume' });
  await old.waitFor((report) => report.is === 'event' && report.event.id === '1');

  const again = await newNode();
  const consumer = new Consumer(again);
  await reaches(again, 'standby');
  old.send({ do: 'close' });
  await reaches(again, 'active');
  await database.query('INSERT INTO orders VALUES (2)');
  await consumer.count(1);
  expect(consumer.ids).toEqual(['2']);
  await expect.poll(async () => (await functions()).length).toBeGreaterThan(0);
});

test('a DBA who runs the plan of 0.1.0 brings its nodes back', async () => {
  const { database, run, oldNode, functions } = await setup();
  await run(['install', '--name', 'x']);
  const plan = await publishedCommand('0.1.0', ['plan', '--name', 'x', '--connection-string', database.url]);
  await database.query(plan);
  expect(await functions()).toEqual([]);
  const old = await oldNode({ install: false });
  await old.waitFor(({ is }) => is === 'active');
  await database.query('INSERT INTO orders VALUES (1)');
  old.send({ do: 'consume' });
  await old.waitFor((report) => report.is === 'event' && report.event.id === '1');
});

test('after uninstall by 0.1.0, its install works once the sequence is dropped that it left behind', async () => {
  const { database, run, installOld } = await setup();
  await run(['install', '--name', 'x']);
  const uninstallOld = ['uninstall', '--name', 'x', '--connection-string', database.url];
  await publishedCommand('0.1.0', uninstallOld);
  // This version installs and uninstalls whether the sequence is there or not.
  expect((await run(['install', '--name', 'x'])).code).toBe(0);
  expect((await run(['doctor', '--name', 'x'])).code).toBe(0);
  await publishedCommand('0.1.0', uninstallOld);
  await database.query('DROP SEQUENCE postgres_input.sequence_postgres_input_x');
  await installOld('x');
  await database.query('INSERT INTO orders VALUES (1)');
  expect(await database.query('SELECT FROM postgres_input.log_postgres_input_x')).toHaveLength(1);
});
