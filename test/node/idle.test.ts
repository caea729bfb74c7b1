/** What a node asks of the database while nothing happens. */
import pg from 'pg';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { PostgresInputOptions } from '../../src/index.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

/** A statement may take twice as long as the time between two renewals: a busy machine needs that. */
const OFTEN: PostgresInputOptions = { lease: { renewInterval: 400 }, discoveryInterval: 400 };
const SIGNS_OF_LIFE = ['LISTEN "sign of life"', 'UNLISTEN "sign of life"'];

async function setup() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  return fixture;
}

/** The statements of all connections of this process, from when each of these has come until each has come again. */
async function statements(...expected: string[]): Promise<string[]> {
  const query = vi.spyOn(pg.Client.prototype, 'query');
  onTestFinished(() => query.mockRestore());
  const asked = () =>
    query.mock.calls.map(([statement]: unknown[]) => {
      const { name, text } = statement as { name?: string; text?: string };
      return name ?? (text ?? String(statement)).replace('dapper-postgres-input: ', '');
    });
  const all = () => expected.every((each) => asked().includes(each));
  await until(all);
  // What has gone before may be of the node's beginning.
  query.mockClear();
  await until(all);
  return [...new Set(asked())].toSorted();
}

test('an active node renews its lease, looks for changes of the catalog, and asks its listener for a sign of life', async () => {
  const fixture = await setup();
  const node = await fixture.input(OFTEN);
  void new Consumer(node);
  await once(node, 'asleep');
  const expected = ['catalog_fingerprint', 'lease_renew', ...SIGNS_OF_LIFE].toSorted();
  expect(await statements(...expected)).toEqual(expected);
});

test('a standby looks at the lease, and asks its listener for a sign of life', async () => {
  const fixture = await setup();
  const active = await fixture.input();
  void new Consumer(active);
  await once(active, 'asleep');
  // Another process has the lease.
  await active.close();
  await fixture.database.query(`UPDATE postgres_input.lock_postgres_input_test_input
    SET holder = 'another', expires_at = now() + interval '1 h'`);
  const node = await fixture.input(OFTEN);
  void new Consumer(node);
  await reaches(node, 'standby');
  const expected = ['lease_observe', ...SIGNS_OF_LIFE].toSorted();
  expect(await statements(...expected)).toEqual(expected);
});
