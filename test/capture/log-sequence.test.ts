/** What happens when somebody sets the sequence of the log, under writers: nothing is lost or repeated, and statements soon succeed again. */
import type pg from 'pg';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { ChangeLog } from '../../src/capture/change-log.ts';
import type { Change } from '../../src/capture/change.ts';
import type { PostgresInputOptions } from '../../src/index.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const SEQUENCE = 'postgres_input.sequence_postgres_input_test_input';
const DOWN = [
  `SELECT setval('${SEQUENCE}', 1)`,
  `SELECT setval('${SEQUENCE}', 3, false)`,
  `ALTER SEQUENCE ${SEQUENCE} RESTART`,
];
const UP = [`SELECT setval('${SEQUENCE}', 5000000000)`, `SELECT setval('${SEQUENCE}', 9223372036854775807)`];
/** A statement may take twice as long: a busy machine needs that. */
const OFTEN: PostgresInputOptions = { lease: { renewInterval: 400 }, maxInFlight: 100_000 };

async function setup(options: PostgresInputOptions = OFTEN) {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const resets: { repaired: boolean }[] = [];
  const input = await fixture.input(options);
  input.on('sequenceReset', (reset) => resets.push(reset));
  return {
    database: fixture.database,
    another: (more: PostgresInputOptions = options, config: { url?: string } = {}) =>
      fixture.input(more, config),
    input,
    resets,
  };
}

/** Inserts rows until the test has seen enough. Statements may fail because of the sequence alone. */
function write(database: TestDatabase, first: number) {
  const committed: string[] = [];
  let isWriting = true;
  let inARow = 0;
  const done = (async () => {
    // oxlint-disable-next-line no-unmodified-loop-condition -- stop() modifies it
    for (let id = first; isWriting; id++) {
      try {
        await database.query('INSERT INTO items VALUES ($1)', [id]);
        committed.push(String(id));
        inARow++;
      } catch (error) {
        if (!['23505', '22003', '2200H'].includes((error as pg.DatabaseError).code!)) throw error;
        inARow = 0;
      }
    }
  })();
  return {
    committed,
    /** Resolves when so many statements in a row have succeeded from now on. */
    succeeds: (count: number) => ((inARow = 0), until(() => inARow >= count)),
    async stop() {
      isWriting = false;
      await done;
      return committed;
    },
  };
}

/** The ids of all events, once there are so many, and how many sequences they have. */
async function handedOut(consumer: Consumer, count: number) {
  await consumer.count(count);
  const sequences = new Set(consumer.events.map(({ sequence }) => sequence));
  return { ids: consumer.ids.toSorted(), sequences: sequences.size };
}

describe.each([...DOWN, ...UP])('%s', (script) => {
  test.each(['manual', 'auto'] as const)(
    'under writers, while the reader is awake (ack: %s)',
    async (ack) => {
      const { database, input } = await setup();
      const consumer = new Consumer(input, { ack });
      await reaches(input, 'active');
      // The fall is deeper than what the writers can make up before anybody looks.
      await database.query(`SELECT setval('${SEQUENCE}', 1000000)`);
      const writers = [0, 1, 2].map((n) => write(database, 1 + n * 1_000_000));
      for (let round = 0; round < 3; round++) {
        await Promise.all(writers.map((writer) => writer.succeeds(30)));
        await database.query(script);
      }
      await Promise.all(writers.map((writer) => writer.succeeds(30)));
      const ids = (await Promise.all(writers.map((writer) => writer.stop()))).flat();
      expect(await handedOut(consumer, ids.length)).toEqual({ ids: ids.toSorted(), sequences: ids.length });
    },
  );

  test.each(['manual', 'auto'] as const)('while the reader is asleep (ack: %s)', async (ack) => {
    const { database, input } = await setup();
    const consumer = new Consumer(input, { ack });
    await once(input, 'asleep');
    const ids: string[] = [];
    for (let id = 1; id <= 12; id++) {
      if (id === 6) await database.query(script);
      const insert = () =>
        database.query('INSERT INTO items VALUES ($1)', [id]).then(
          () => true,
          () => false,
        );
      await until(insert);
      ids.push(String(id));
      await consumer.count(ids.length);
    }
    // A statement that the reader has to look up.
    await database.query('INSERT INTO items SELECT generate_series(1001, 1080)');
    for (let id = 1001; id <= 1080; id++) ids.push(String(id));
    expect(await handedOut(consumer, ids.length)).toEqual({ ids: ids.toSorted(), sequences: ids.length });
  });

  test('while no node is active and rows wait', async () => {
    const { database, input, another } = await setup();
    let consumer = new Consumer(input, { ack: 'manual' });
    await once(input, 'asleep');
    await database.query('INSERT INTO items SELECT generate_series(1, 5)');
    await consumer.count(5);
    await input[Symbol.asyncDispose]();
    await database.query(script);
    const next = await another();
    consumer = new Consumer(next, { ack: 'manual' });
    await consumer.count(5);
    await until(() =>
      database.query('INSERT INTO items VALUES (6)').then(
        () => true,
        () => false,
      ),
    );
    await until(() => consumer.ids.length >= 6);
    expect(consumer.ids).toEqual(['1', '2', '3', '4', '5', '6']);
  });
});

test('changes of a statement whose number a partly acknowledged statement had come after what is left of that, each once', async () => {
  const { database, input, another } = await setup();
  const first = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  await database.query('INSERT INTO items SELECT generate_series(1, 100)');
  await first.count(100);
  const left = first.events.filter(({ id }) => Number(id) % 3 === 0);
  for (const event of first.events) if (!left.includes(event)) await input.ack(event);
  await input[Symbol.asyncDispose]();
  const [{ seq }] = (await database.query(
    'SELECT min(seq) - min(seq) % 1000 AS seq FROM postgres_input.log_postgres_input_test_input',
  )) as [{ seq: string }];
  await database.query(`SELECT setval('${SEQUENCE}', $1, false)`, [BigInt(seq) / 1000n]);
  await database.query('UPDATE items SET value = 1');

  const next = await another();
  const second = new Consumer(next, { ack: 'manual' });
  await second.count(left.length + 100);
  expect(second.events.slice(0, left.length).map(({ sequence }) => sequence)).toEqual(
    left.map(({ sequence }) => sequence),
  );
  expect(new Set(second.events.map(({ sequence }) => sequence)).size).toBe(left.length + 100);
  const client = await database.client();
  for (const [n, event] of second.events.toReversed().entries()) {
    if (n % 10 > 0) {
      await next.ack(event);
      continue;
    }
    await client.query('BEGIN');
    await next.ack(event, client);
    await client.query('COMMIT');
  }
  expect(await next.status()).toMatchObject({ backlog: 0 });
});

describe('the node', () => {
  test('tells that it has put the sequence right', async () => {
    const { database, input, resets } = await setup();
    const consumer = new Consumer(input, { ack: 'manual' });
    await once(input, 'asleep');
    await database.query('INSERT INTO items VALUES (1), (2), (3)');
    await consumer.count(3);
    await database.query(DOWN[0]!);
    await until(() => resets.length > 0);
    expect(resets).toEqual([{ repaired: true }]);
    await database.query('INSERT INTO items VALUES (4)');
    await consumer.count(4);
  });

  /** A node that has taken over, whose role has the rights of a node, apart from those on the sequence. */
  async function ofRole(rightOnSequence?: 'SELECT') {
    const { database, input, another } = await setup({ ...OFTEN });
    const first = new Consumer(input);
    await once(input, 'asleep');
    await database.query('INSERT INTO items VALUES (1), (2), (3)');
    await first.count(3);
    await input.close();
    await first.ended;
    const { role, url } = await createRole(database);
    await database.query(`GRANT USAGE ON SCHEMA postgres_input TO ${role};
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA postgres_input TO ${role}`);
    if (rightOnSequence) await database.query(`GRANT ${rightOnSequence} ON SEQUENCE ${SEQUENCE} TO ${role}`);
    const node = await another({ ...OFTEN, install: false }, { url });
    const resets: unknown[] = [];
    node.on('sequenceReset', (reset) => resets.push(reset));
    const consumer = new Consumer(node);
    await once(node, 'asleep');
    const expiry = async () =>
      (await database.query('SELECT expires_at FROM postgres_input.lock_postgres_input_test_input'))[0]
        .expires_at;
    const renewals = async (count: number) => {
      for (let n = 0; n < count; n++) {
        const before = await expiry();
        await until(async () => (await expiry()) > before);
      }
    };
    return { database, node, consumer, resets, renewals };
  }

  test('of a role that may not read the sequence renews its lease, and tells nothing', async () => {
    const { database, node, consumer, resets, renewals } = await ofRole();
    await database.query(`SELECT setval('${SEQUENCE}', 1000)`);
    await renewals(2);
    await database.query('INSERT INTO items VALUES (4)');
    await consumer.count(1);
    await database.query(DOWN[0]!);
    await renewals(2);
    expect([node.state, resets]).toEqual(['active', []]);
  });

  test('of a role that may not, tells so once, and hands out all that is committed', async () => {
    const { database, consumer, resets, renewals } = await ofRole('SELECT');
    await database.query(DOWN[0]!);
    await until(() => resets.length > 0);
    await database.query('INSERT INTO items SELECT generate_series(11, 80)');
    await consumer.count(70);
    await renewals(3);
    expect(resets).toEqual([{ repaired: false }]);
    await database.query(UP[0]!);
    await until(() => resets.length > 1);
    expect(resets).toEqual([{ repaired: false }, { repaired: true }]);
  });
});

describe('a pass', () => {
  const ids = (changes: readonly Change[]) => changes.map(({ id }) => id);

  async function logged() {
    const fixture = await setupSessions();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const { database, names } = fixture;
    const session = await fixture.session();
    const log = new ChangeLog(session, names);
    const pass = async (rows = 100) => {
      const found: string[] = [];
      for (let last = false; !last;) {
        const page = await log.readPage(rows);
        found.push(...ids(page.changes));
        last = page.last;
      }
      return found;
    };
    const insert = (
      id: number,
      client: { query(sql: string, values: unknown[]): Promise<unknown> } = database,
    ) => client.query('INSERT INTO items VALUES ($1)', [id]);
    const setTo = (row: number) => database.query(`SELECT setval('${names.logSequence.sql}', ${row})`);
    return { database, names, session, log, pass, insert, setTo };
  }

  test('finds changes whose numbers fell, before a later pass and while transactions were open', async () => {
    const { database, pass, insert, setTo } = await logged();
    const [early, late] = [await database.client(), await database.client()];
    await setTo(1000);
    await early.query('BEGIN');
    await insert(1, early);
    await insert(2);
    expect(await pass()).toEqual(['2']);
    await setTo(500);
    await late.query('BEGIN');
    await insert(3, late);
    await insert(4);
    expect(await pass(1)).toEqual(['4']);
    await insert(5);
    expect(await pass()).toEqual(['5']);
    await setTo(100);
    await insert(6);
    await early.query('COMMIT');
    expect(await pass(1)).toEqual(['6', '1']);
    await setTo(5000);
    await insert(7);
    await late.query('COMMIT');
    expect(await pass(1)).toEqual(['3', '7']);
    expect(await pass()).toEqual([]);
  });

  test('finds changes whose numbers fell a little and rose again', async () => {
    const { pass, insert, setTo } = await logged();
    await setTo(1000);
    await pass();
    await setTo(997);
    for (let id = 1; id <= 6; id++) await insert(id);
    expect(await pass()).toEqual(['1', '2', '3', '4', '5', '6']);
  });

  test('finds such changes also if a transaction began at the first pass, so that its snapshot could not list it', async () => {
    const { database, session, pass, insert, setTo } = await logged();
    await setTo(1000);
    const open = await database.client();
    const ask = session.query.bind(session);
    // Between the moment at which reading begins, and the first pass.
    vi.spyOn(session, 'query').mockImplementationOnce(async (...statement) => {
      const rows = await ask(...statement);
      await open.query('BEGIN; SELECT pg_current_xact_id()');
      return rows;
    });
    await pass();
    await setTo(997);
    for (let id = 1; id <= 6; id++) await insert(id);
    expect(await pass()).toEqual(['1', '2', '3', '4', '5', '6']);
    await open.query('COMMIT');
  });

  test.each([0, 100, 1000, 500_000])('reads again what it has read, after %i rows', async (row) => {
    const { log, pass, insert, setTo } = await logged();
    if (row > 0) await setTo(row);
    await pass();
    for (let id = 1; id <= 3; id++) await insert(id);
    const [first] = (await log.readPage(100)).changes;
    const again = await log.readAgain(BigInt(first!.sequence!), 100);
    expect(ids(again.changes)).toEqual(['1', '2', '3']);
    expect(again.upto).toBeNull();
  });

  test('takes no change whose number fell for one that was restored from another cluster', async () => {
    const { pass, insert, setTo } = await logged();
    await setTo(1000);
    await pass();
    await setTo(10);
    await insert(1);
    expect(await pass()).toEqual(['1']);
  });

  test('reads rows above the sequence', async () => {
    const { pass, insert, setTo } = await logged();
    await setTo(500_000);
    await insert(1);
    await setTo(10);
    expect(await pass()).toEqual(['1']);
  });
});
