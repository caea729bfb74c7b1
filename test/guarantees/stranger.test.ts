/** PostgreSQL has no privileges for channels: a role that may only connect hears every notification. So no value of a row is in one. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { namesOf } from '../../src/schema/names.ts';
import { Consumer, once } from '../support/consumer.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

/** Every value of the tables contains it, the keys included. */
const SECRET = 'geheim';
const ROWS = 200;

/** In the order in which they run. The last number is how many events there are. */
const STATEMENTS: readonly (readonly [statement: string, events: number])[] = [
  [`INSERT INTO people VALUES ('${SECRET} 1', '${SECRET}', '{"a": "${SECRET}"}')`, 1],
  [`INSERT INTO people SELECT '${SECRET} ' || n, '${SECRET}' FROM generate_series(2, ${ROWS}) n`, ROWS - 1],
  [`INSERT INTO people VALUES ('${SECRET} long', repeat('${SECRET}', 200000))`, 1],
  [`UPDATE people SET name = '${SECRET}!' WHERE id = '${SECRET} 1'`, 1],
  [`UPDATE people SET name = name || '${SECRET}?'`, ROWS + 1],
  [`UPDATE people SET id = '${SECRET} new' WHERE id = '${SECRET} 1'`, 2],
  [`UPDATE people SET id = 'new ' || id WHERE id <> '${SECRET} long'`, 2 * ROWS],
  [`INSERT INTO keyless VALUES ('${SECRET}')`, 1],
  [`UPDATE keyless SET note = '${SECRET}!'`, 1],
  [`DELETE FROM keyless`, 1],
  [`DELETE FROM people WHERE id = 'new ${SECRET} new'`, 1],
  [`DELETE FROM people`, ROWS],
  [`BEGIN; INSERT INTO people VALUES ('${SECRET}'); UPDATE people SET id = 'x${SECRET}'; COMMIT`, 3],
  [`TRUNCATE people`, 1],
];

async function setup() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database } = fixture;
  await database.query(`CREATE TABLE people (id text PRIMARY KEY, name text, more jsonb);
    CREATE TABLE keyless (note text)`);
  const input = await fixture.input({ rows: 'both' });
  const stranger = await listen(database);
  return { database, input, stranger };
}

/** A role that may only connect listens on every channel of the input. */
async function listen(database: TestDatabase) {
  const { url } = await createRole(database);
  const client = await database.client({ connectionString: url });
  const heard: string[] = [];
  client.on('notification', ({ payload }) => heard.push(payload ?? ''));
  const { channel, nodeChannel } = namesOf('test_input', 'postgres_input');
  for (const name of [channel, nodeChannel]) await client.query(`LISTEN ${pg.escapeIdentifier(name)}`);
  return {
    /** Everything that was sent so far. PostgreSQL delivers what was committed before the answer to a later query. */
    async heard(): Promise<readonly string[]> {
      await client.query('SELECT');
      return heard;
    },
  };
}

/** The events of all statements, each with the data that it should have. */
const expectData = ({ events }: Consumer): void => {
  expect(events).toHaveLength(STATEMENTS.reduce((sum, [, count]) => sum + count, 0));
  for (const { id, before, after, dataOmitted } of events) {
    if (id === '*') continue;
    expect(JSON.stringify(before ?? after) + dataOmitted).toMatch(/geheim|too-large/);
  }
};

test('a stranger who listens to an input that is asleep hears no value of a row', async () => {
  const { database, input, stranger } = await setup();
  let asleep = once(input, 'asleep');
  input.on('awake', () => {
    asleep = once(input, 'asleep');
  });
  const consumer = new Consumer(input);
  let expected = 0;
  let announced = 0;
  for (const [statement, count] of STATEMENTS) {
    await asleep;
    const before = (await stranger.heard()).length;
    await database.query(statement);
    await consumer.count((expected += count));
    if ((await stranger.heard()).length > before) announced++;
  }
  expectData(consumer);
  expect(announced).toBe(STATEMENTS.length);
  expect((await stranger.heard()).join('\n')).not.toContain(SECRET);
});

test('a stranger who listens to an input that is awake hears no value of a row', async () => {
  const { database, input, stranger } = await setup();
  let proceed = () => {};
  const held = new Promise<void>((resolve) => (proceed = resolve));
  // A consumer that is busy with its first event keeps the reader awake.
  const consumer = new Consumer(input, {}, () => held);
  await once(input, 'asleep');
  await database.query(`INSERT INTO items SELECT generate_series(1, 30000)`);
  await until(() => consumer.events.length > 0);
  let hasSlept = false;
  input.on('asleep', () => (hasSlept = true));
  for (const [statement] of STATEMENTS) await database.query(statement);
  expect(hasSlept).toBe(false);
  proceed();
  await consumer.count(30_000 + STATEMENTS.reduce((sum, [, count]) => sum + count, 0), 60_000);
  expectData({ events: consumer.events.filter(({ location }) => location !== 'items') } as Consumer);
  expect((await stranger.heard()).join('\n')).not.toContain(SECRET);
});
