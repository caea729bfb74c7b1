import type pg from 'pg';
import { describe, expect, inject, test, vi } from 'vitest';
import { acknowledgeIn, namedBy } from '../../src/capture/acknowledge-in.ts';
import { acknowledgementsSql } from '../../src/capture/acknowledgements-sql.ts';
import { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import { changeLogSql } from '../../src/capture/change-log-sql.ts';
import { ChangeLog } from '../../src/capture/change-log.ts';
import type { Change } from '../../src/capture/change.ts';
import { PAGE, Passes } from '../../src/capture/passes.ts';
import { Unpacking } from '../../src/capture/unpacking.ts';
import { eventOf } from '../../src/delivery/event.ts';
import { Lease } from '../../src/node/lease.ts';
import type { Session } from '../../src/postgres/session.ts';
import { install } from '../../src/schema/install.ts';
import { writtenRow } from '../../src/schema/log-layout.ts';
import { type SessionsFixture, setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const never = new AbortController().signal;

async function setup() {
  const fixture = await setupSessions({ lease: { duration: 60_000 } });
  const session = await fixture.session();
  const lease = new Lease(session, fixture.names, fixture.settings.lease);
  await lease.standBy(never);
  const failures: unknown[] = [];
  const open = (patience?: number) =>
    new ChangeLog(session, fixture.names, { patience, hold: lease.holding });
  const acknowledgements = new Acknowledgements(session, fixture.names, lease.holding, (error) =>
    failures.push(error),
  );
  const another = await fixture.session();
  const sessions = { opened: 0 };
  const unpacking = new Unpacking(fixture.names, (task) => {
    sessions.opened++;
    return task(another);
  });
  const unpack = (row: string) => unpacking.unpack(row);
  return { fixture, session, lease, failures, open, log: open(), acknowledgements, unpack, sessions };
}

/** What a row of the log holds at most. */
const PACK = 100;

/** A complete pass, in pages of that size. */
async function pass(log: ChangeLog, rows = 100, upTo: string | null = null): Promise<Change[]> {
  const changes: Change[] = [];
  for (;;) {
    const page = await log.readPage(rows, upTo);
    // A page ends with a row of the log.
    expect(page.changes.length).toBeLessThan(rows + PACK);
    changes.push(...page.changes);
    if (page.last) return changes;
  }
}
const ids = (changes: readonly { readonly id: string }[]) => changes.map(({ id }) => id);
const insert = (client: pg.Client, ...values: number[]) =>
  client.query('INSERT INTO items SELECT unnest($1::int[])', [values]);
async function snapshotOf({ database }: SessionsFixture): Promise<string> {
  const [row] = await database.query('SELECT pg_current_snapshot()::text AS snapshot');
  return row!['snapshot'] as string;
}
const logged = async ({ database, names }: SessionsFixture) => {
  const rows = await database.query(`SELECT id FROM ${names.logTable.sql} ORDER BY seq`);
  return rows.map(({ id }) => id);
};

describe('a pass', () => {
  test('delivers changes in the order of their sequences, with all fields', async () => {
    const { fixture, log } = await setup();
    await fixture.database.query(
      `INSERT INTO items VALUES (7); UPDATE items SET value = 1; DELETE FROM items`,
    );
    const changes = await pass(log, 2);
    expect(changes.map(({ operation }) => operation)).toEqual(['create', 'update', 'delete']);
    expect(changes[0]).toEqual({
      sequence: expect.stringMatching(/^\d+$/),
      stamp: expect.stringMatching(/^\d{16}$/),
      details: null,
      shape: null,
      location: 'items',
      operation: 'create',
      id: '7',
      key: 'id',
      occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/),
      transaction: expect.stringMatching(/^\d+$/),
    });
    expect(Math.abs(Date.now() - Date.parse(changes[0]!.occurredAt!))).toBeLessThan(60_000);
    const sequences = changes.map(({ sequence }) => BigInt(sequence!));
    expect(sequences).toEqual(sequences.toSorted((a, b) => Number(a - b)));
  });

  test.each([1, 3, 4, 5, 100])('delivers each change exactly once in pages of %i', async (rows) => {
    const { fixture, log } = await setup();
    const writer = await fixture.database.client();
    expect(await pass(log, rows)).toEqual([]);
    await insert(writer, 1, 2, 3, 4);
    expect(ids(await pass(log, rows))).toEqual(['1', '2', '3', '4']);
    expect(await pass(log, rows)).toEqual([]);
    await insert(writer, 5, 6, 7, 8);
    expect(ids(await pass(log, rows))).toEqual(['5', '6', '7', '8']);
    expect(await pass(log, rows)).toEqual([]);
  });

  test('does not wait for an open transaction; a later pass reads its lower sequences', async () => {
    const { fixture, log, open } = await setup();
    const [slow, other] = [await fixture.database.client(), await fixture.database.client()];
    await slow.query('BEGIN');
    await insert(slow, 1);
    for (let id = 11; id < 16; id++) {
      await insert(other, id);
      await insert(slow, id - 9);
      expect(ids(await pass(log, 2))).toEqual([String(id)]);
      expect(ids(await pass(log, 2))).toEqual([]);
    }
    // What is acknowledged, and not vacuumed as long as the transaction is open, is in nobody's way.
    await fixture.database.query(`DELETE FROM ${fixture.names.logTable.sql}`);
    await insert(other, 16);
    expect(ids(await pass(log, 2))).toEqual(['16']);
    await slow.query('COMMIT');
    expect(ids(await pass(log, 2))).toEqual(['1', '2', '3', '4', '5', '6']);
    expect(ids(await pass(log, 2))).toEqual([]);
    expect(ids(await pass(open(), 2))).toEqual(['1', '2', '3', '4', '5', '6', '16']);
  });

  test('leaves a change that commits during the pass to the next pass, also below the sequences already read', async () => {
    const { fixture, log } = await setup();
    const [slow, other] = [await fixture.database.client(), await fixture.database.client()];
    await slow.query('BEGIN');
    await insert(slow, 1);
    await insert(other, 2, 3, 4);
    expect(ids((await log.readPage(2)).changes)).toEqual(['2', '3']);
    await insert(slow, 5);
    await slow.query('COMMIT');
    await insert(other, 6);
    expect(await log.readPage(2)).toMatchObject({ changes: [{ id: '4' }], last: true });
    expect(ids(await pass(log, 2))).toEqual(['1', '5', '6']);
  });

  test('delivers the changes of several late transactions, in whatever order they end', async () => {
    const { fixture, log } = await setup();
    const writers = await Promise.all([1, 2, 3, 4].map(() => fixture.database.client()));
    for (const [n, writer] of writers.entries()) {
      await writer.query('BEGIN');
      await insert(writer, n);
      expect(await pass(log)).toEqual([]);
      await insert(writer, 10 + n);
    }
    for (const n of [2, 0, 3, 1]) {
      await writers[n]!.query(n === 3 ? 'ROLLBACK' : 'COMMIT');
      expect(ids(await pass(log))).toEqual(n === 3 ? [] : [String(n), String(10 + n)]);
    }
  });

  test.runIf(inject('preparedTransactions'))(
    'delivers a prepared transaction once it is committed, with the changes of its savepoints',
    async () => {
      const { fixture, log } = await setup();
      const writer = await fixture.database.client();
      await writer.query('BEGIN; INSERT INTO items VALUES (1); SAVEPOINT a; INSERT INTO items VALUES (2)');
      await writer.query(
        'ROLLBACK TO a; INSERT INTO items VALUES (3); SAVEPOINT b; INSERT INTO items VALUES (4)',
      );
      await writer.query(`PREPARE TRANSACTION '${fixture.database.name}'`);
      await insert(writer, 5);
      expect(ids(await pass(log))).toEqual(['5']);
      await writer.query(`COMMIT PREPARED '${fixture.database.name}'`);
      expect(ids(await pass(log))).toEqual(['1', '3', '4']);
    },
  );

  test('ends a page with the row whose text fills it', async () => {
    const { fixture, log } = await setup();
    // 25 texts of 200 kB weigh 49 each, and every fifth one is as long when it is printed as JSON in the key.
    await fixture.database.query(`
      INSERT INTO ${fixture.names.logTable.sql} (at, tbl, id, op, key)
      SELECT now(), 'items', left(n || repeat(md5(n::text), 6250), 200000), 'INSERT',
        CASE WHEN n % 5 = 0 THEN '{"a":"' || repeat('y', 200000) || '"}' ELSE '"id"' END
      FROM generate_series(1, 25) n`);
    const sizes: number[] = [];
    const read: string[] = [];
    for (let last = false; !last;) {
      const page = await log.readPage(200);
      sizes.push(page.changes.length);
      read.push(...ids(page.changes).map((id) => id.slice(0, 2)));
      last = page.last;
      expect(page.changes.reduce((sum, { weight }) => sum + weight, 0)).toBeLessThan(300);
    }
    expect(Math.max(...sizes)).toBeLessThan(6);
    expect(read.map((id) => Number.parseInt(id)).length).toBe(25);
    expect(await pass(log)).toEqual([]);
    // Alone, any row makes a page.
    await fixture.database.query(
      `INSERT INTO ${fixture.names.logTable.sql} (at, tbl, id, op) VALUES (now(), 'items', repeat('x', 900000), 'INSERT')`,
    );
    expect(ids((await log.readPage(1)).changes)).toEqual(['x'.repeat(900_000)]);
  });

  test('does not read the data of rows beyond its page', async () => {
    const { fixture, session } = await setup();
    const { names } = fixture;
    await fixture.database.query(`
      INSERT INTO ${names.logTable.sql} (at, tbl, id, op, after, shape)
      SELECT now(), 'items', n::text, 'INSERT', repeat('x', 1000000), 'some-shape' FROM generate_series(1, 4) n`);
    const text = `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${changeLogSql(names).firstPass.text}`;
    const blocksRead = async (weight: number) => {
      const values = [null, null, 10_000, weight, 100, '0', '1', '0', '2026-01-01'];
      const [row] = await session.query<{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }>(text, values);
      const { Plan } = row!['QUERY PLAN'][0];
      return Plan['Shared Hit Blocks']! + Plan['Shared Read Blocks']!;
    };
    const one = await blocksRead(1);
    expect(one).toBeGreaterThan(100);
    expect(await blocksRead(1_000_000)).toBeGreaterThan(3 * one);
  });

  test('never gives the sink more changes at once than a page holds, packed or not', async () => {
    const { fixture, log } = await setup();
    for (const count of [1999, 100, 1]) {
      await fixture.database.query('INSERT INTO items SELECT $1 * 10000 + generate_series(1, $1::int)', [
        count,
      ]);
    }
    const pushed: number[] = [];
    const sink = {
      room: 4000,
      roomApart: 4000,
      waitForRoom: async () => {},
      push: (changes: readonly Change[]) => void pushed.push(changes.length),
    };
    expect(await new Passes(log, sink).readAll(never)).toBe(2100);
    expect(Math.max(...pushed)).toBeLessThanOrEqual(PAGE);
  });

  test('shortens the id of a change whose text is too long for a process, and leaves such a key out', async () => {
    const { fixture, log } = await setup();
    const long = (text: string) => `repeat('${text}', 1100000)`;
    // Versions before this one logged ids of any length.
    await fixture.database.query(`
      INSERT INTO ${fixture.names.logTable.sql} (at, tbl, id, op, key) VALUES
        (now(), 'items', ${long('ü')}, 'INSERT', NULL),
        (now(), 'items', ${long('b')}, 'INSERT', '"id"'),
        (now(), 'items', ${long('c')}, 'INSERT', '{"a":"1","b":"2"}'),
        (now(), 'items', 'd', 'INSERT', '{"a":"' || ${long('d')} || '"}'),
        (now(), 'items', 'e', 'INSERT', '"id"')`);
    const changes = await pass(log);
    const shortened = (text: string) => `${text.repeat(1000)}...`;
    expect(changes.map(({ id, key }) => [id, key])).toEqual([
      [shortened('ü'), null],
      [shortened('b'), null],
      [shortened('c'), { a: '1', b: '2' }],
      ['d', null],
      ['e', 'id'],
    ]);
  });

  test('misses nothing after passes up to snapshots that were both taken before the first of them', async () => {
    const { fixture, log } = await setup();
    const { database } = fixture;
    expect(await pass(log)).toEqual([]);
    const [first, ahead] = [await snapshotOf(fixture), await snapshotOf(fixture)];
    const late = await database.client();
    await late.query('BEGIN');
    await insert(late, -1);
    // More numbers than a pass steps back.
    for (let n = 0; n < 5; n++)
      await database.query(`INSERT INTO items SELECT generate_series(${n * 50 + 1}, ${n * 50 + 50})`);
    for (const upTo of [first, ahead])
      expect(await log.readPage(1000, upTo)).toEqual({ changes: [], last: true });
    expect(await pass(log, 1000)).toHaveLength(250);
    await late.query('COMMIT');
    expect(ids(await pass(log))).toEqual(['-1']);
  });

  test('starts further on with each pass, also up to snapshots that were each taken before the pass before it began', async () => {
    const { fixture, session, log } = await setup();
    const { database } = fixture;
    expect(await pass(log)).toEqual([]);
    const starts: bigint[] = [];
    const eachRow = session.eachRow.bind(session);
    vi.spyOn(session, 'eachRow').mockImplementation((statement, values, onRow) => {
      starts.push(BigInt(values[5] as string));
      return eachRow(statement, values, onRow);
    });
    let ahead = await snapshotOf(fixture);
    for (let n = 0; n < 6; n++) {
      const upTo = ahead;
      ahead = await snapshotOf(fixture);
      // More numbers than a pass steps back.
      for (let k = 0; k < 5; k++)
        await database.query(`INSERT INTO items SELECT ${n} * 250 + ${k} * 50 + generate_series(1, 50)`);
      await log.readPage(1000, upTo);
    }
    expect(starts).toEqual(starts.toSorted((a, b) => Number(a - b)));
    expect(new Set(starts).size).toBeGreaterThan(3);
  });

  test('delivers rows restored from another cluster, if it is the first pass', async () => {
    const { fixture, log } = await setup();
    await fixture.database.query('INSERT INTO items VALUES (1), (2)');
    await fixture.database.query(
      `UPDATE ${fixture.names.logTable.sql} SET xid = '1000000000000' WHERE id = '1'`,
    );
    expect(ids(await pass(log, 1))).toEqual(['1', '2']);
    expect(await pass(log)).toEqual([]);
  });

  test("delivers restored rows once and in order, also when the cluster's own transaction ids pass the restored ones", async () => {
    const { fixture, log } = await setup();
    const { database, names } = fixture;
    const [early, late] = [await database.client(), await database.client()];
    const spendXids = async (count: number) => {
      for (let n = 0; n < count; n++) await database.query('SELECT pg_current_xact_id()');
    };
    await early.query('BEGIN');
    await insert(early, -1);
    await spendXids(60);
    await database.query(`
      INSERT INTO ${names.logTable.sql} (xid, at, tbl, id, op)
      SELECT (CASE WHEN n <= 50 THEN ended - 51 ELSE own END + n)::text::xid8, now(), 'items', n, 'UPDATE'
      FROM generate_series(1, 300) n, (
        -- No transaction below this xid is open: other databases of the server have transactions too.
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS ended, pg_current_xact_id()::text::bigint AS own
      ) xids`);
    const found: string[] = [];
    for (let page = 1, last = false; !last; page++) {
      const { changes, ...read } = await log.readPage(10);
      found.push(...ids(changes));
      last = read.last;
      await spendXids(12);
      if (page === 5) await late.query('BEGIN');
      if (page === 5) await insert(late, -2);
      if (page === 10) await early.query('COMMIT');
      if (page === 15) await late.query('COMMIT');
    }
    expect(found).toEqual(Array.from({ length: 300 }, (_, n) => String(n + 1)));
    expect(ids(await pass(log))).toEqual(['-1', '-2']);
    expect(await pass(log)).toEqual([]);
  });

  test('delivers a restored row whose transaction id is that of an open transaction with the first pass, and once', async () => {
    const { fixture, log } = await setup();
    const { database, names } = fixture;
    const own = await database.client();
    await own.query('BEGIN');
    await insert(own, -1);
    await database.query('SELECT pg_current_xact_id()');
    await insert(await database.client(), 1, 2, 3);
    // The second one straddles: its transaction is open here.
    const { rows } = await own.query('SELECT pg_current_xact_id()::text AS xid');
    await database.query(`UPDATE ${names.logTable.sql} SET xid = $1::xid8 WHERE id = '2'`, [rows[0].xid]);
    expect(ids(await pass(log, 100))).toEqual(['1', '2', '3']);
    expect(await pass(log)).toEqual([]);
    await own.query('COMMIT');
    expect(ids(await pass(log))).toEqual(['-1']);
    expect(await pass(log)).toEqual([]);
  });

  test('delivers restored rows of a later time with the first pass, and once', async () => {
    const { fixture, log } = await setup();
    const { database, names } = fixture;
    await insert(await database.client(), 1, 2, 3);
    await database.query(
      `UPDATE ${names.logTable.sql} SET at = at + interval '1 hour', xid = (pg_current_xact_id()::text::bigint + 5)::text::xid8 WHERE id = '2'`,
    );
    expect(ids(await pass(log, 100))).toEqual(['1', '2', '3']);
    for (let n = 0; n < 20; n++) await database.query('SELECT pg_current_xact_id()');
    expect(await pass(log)).toEqual([]);
  });

  test('tells which transactions it covers', async () => {
    const { fixture, log } = await setup();
    const writer = await fixture.database.client();
    const xidNow = async () => {
      const { rows } = await writer.query('SELECT pg_current_xact_id()::text AS xid');
      return BigInt(rows[0].xid);
    };
    const ended = await xidNow();
    await writer.query('BEGIN');
    const xid = await xidNow();
    expect(log.covers(ended)).toBe(false);
    await pass(log);
    expect([log.covers(ended), log.covers(xid)]).toEqual([true, false]);
    await writer.query('COMMIT');
    await pass(log);
    expect(log.covers(xid)).toBe(true);
  });

  test('goes on where a statement stopped that ran out of time', async () => {
    const { fixture, open } = await setup();
    const skipTo = (row: number) =>
      fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', ${row})`);
    const slow = await fixture.database.client();
    await insert(slow, 1, 2, 3);
    await skipTo(250_000);
    await slow.query('BEGIN');
    await insert(slow, 4);
    await skipTo(900_000);
    await fixture.database.query('INSERT INTO items VALUES (5), (6)');
    for (const [patience, rows, pages] of [
      [0, 2, 11],
      [0, 100, 10],
      [60_000, 100, 1],
    ] as const) {
      const log = open(patience);
      const found: string[][] = [];
      for (let last = false; !last;) {
        const page = await log.readPage(rows);
        found.push(ids(page.changes));
        last = page.last;
      }
      expect(found.flat()).toEqual(['1', '2', '3', '5', '6']);
      expect(found).toHaveLength(pages);
    }
    const log = open(0);
    await pass(log);
    await slow.query('COMMIT');
    await skipTo(1_300_000);
    await insert(slow, 7);
    expect(ids(await pass(log))).toEqual(['4', '7']);
    expect(await pass(log)).toEqual([]);
  });

  test.each([
    ['whatever is open meanwhile', undefined, 1],
    ['also when every statement has its time over soon', 0, 40_000],
  ])(
    'delivers each committed change once and the changes of a row in order, %s',
    async (_, patience, increment) => {
      const { fixture, open, acknowledgements } = await setup();
      await fixture.database.query(
        `ALTER SEQUENCE ${fixture.names.logSequence.sql} INCREMENT BY ${increment}`,
      );
      const log = open(patience);
      let seed = 20_260_131;
      const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
      const writers = await Promise.all(
        Array.from({ length: 6 }, async () => ({
          client: await fixture.database.client(),
          open: false,
          wrote: [] as string[],
        })),
      );
      // Each writer has rows of its own, so that none waits for another; value is what was written how many times.
      await fixture.database.query('INSERT INTO items SELECT n, 0 FROM generate_series(0, 899) n');
      const committed = new Map<string, number>();
      const expected: string[] = [];
      const seen: Change[] = [...(await pass(log, 7))];
      seen.length = 0;
      let acknowledged = 0;
      /** The snapshot at which the next pass ends, taken before the pass before it began. */
      let ahead: string | null = null;
      for (let step = 0; step < 400; step++) {
        const n = random(writers.length);
        const writer = writers[n]!;
        switch (random(5)) {
          case 0:
            if (ahead === null && random(2) === 0) {
              seen.push(...(await log.readPage(1 + random(9))).changes);
            } else {
              const upTo: string | null = ahead;
              if (upTo === null) seen.push(...(await pass(log, 1 + random(9))));
              ahead = random(4) > 0 ? await snapshotOf(fixture) : null;
              if (upTo !== null) seen.push(...(await pass(log, 1 + random(9), upTo)));
            }
            break;
          case 1:
            if (!writer.open) break;
            if (random(4) === 0) await writer.client.query('ROLLBACK');
            else {
              await writer.client.query('COMMIT');
              expected.push(...writer.wrote);
              for (const id of writer.wrote) committed.set(id, (committed.get(id) ?? 0) + 1);
            }
            writer.open = false;
            writer.wrote = [];
            break;
          case 2:
            // Of rows that hold many changes, all or some.
            for (const { sequence } of seen.slice(acknowledged))
              if (random(9) < 8) acknowledgements.acknowledgeSoon(sequence!);
            acknowledged = seen.length;
            await acknowledgements.flush();
            break;
          default: {
            if (!writer.open) await writer.client.query('BEGIN');
            writer.open = true;
            const first = 150 * n + random(3);
            const last = first + (random(5) === 0 ? 51 + random(90) : 0);
            await writer.client.query('UPDATE items SET value = value + 1 WHERE id BETWEEN $1 AND $2', [
              first,
              last,
            ]);
            for (let id = first; id <= last; id++) writer.wrote.push(String(id));
          }
        }
      }
      for (const { client, open } of writers) if (open) await client.query('ROLLBACK');
      // The one that may be under way, and one that sees everything.
      seen.push(...(await pass(log, 5)), ...(await pass(log, 5)));
      expect(seen).toHaveLength(expected.length);
      expect(new Set(seen.map(({ sequence }) => sequence)).size).toBe(seen.length);
      for (const [id, count] of committed) {
        const sequences = seen.filter((change) => change.id === id).map(({ sequence }) => BigInt(sequence!));
        expect(sequences).toHaveLength(count);
        expect(sequences).toEqual(sequences.toSorted((a, b) => Number(a - b)));
      }
    },
  );
});

describe('acknowledging', () => {
  test('takes few statements, one at a time, however many calls there are', async () => {
    const { fixture, log, acknowledgements } = await setup();
    const { database, names } = fixture;
    await database.query('INSERT INTO items SELECT generate_series(1, 1000)');
    const [first, ...others] = await pass(log, 1000);
    const gate = await database.client();
    await gate.query(`
      CREATE SEQUENCE statements;
      CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('public.statements');
        PERFORM pg_advisory_xact_lock_shared(1);
        RETURN NULL;
      END $$;
      CREATE TRIGGER gate BEFORE DELETE ON ${names.logTable.sql} FOR EACH STATEMENT EXECUTE FUNCTION pass_gate();
      SELECT pg_advisory_lock(1)`);
    const statements = async () =>
      (await database.query(`SELECT pg_sequence_last_value('statements')::int AS n`))[0].n;
    acknowledgements.acknowledgeSoon(first!.sequence!);
    await until(async () => (await statements()) === 1);
    for (const [n, { sequence }] of others.entries()) {
      acknowledgements.acknowledgeSoon(sequence!);
      if (n % 10 === 0) await new Promise(setImmediate);
    }
    const flushed = acknowledgements.flush();
    await gate.query('SELECT pg_advisory_unlock(1)');
    await flushed;
    expect(await logged(fixture)).toEqual([]);
    expect(await statements()).toBe(2);
    await acknowledgements.flush();
  });

  test('resolves when the change is deleted, also when repeated', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await fixture.database.query('INSERT INTO items VALUES (1), (2), (3)');
    const [first, second, third] = await pass(log);
    await acknowledgements.acknowledge(second!.sequence!);
    expect(await logged(fixture)).toEqual(['1', '3']);
    await acknowledgements.acknowledge(second!.sequence!);
    await Promise.all([
      acknowledgements.acknowledge(first!.sequence!),
      acknowledgements.acknowledge(third!.sequence!),
    ]);
    expect(await logged(fixture)).toEqual([]);
  });

  test('does nothing for a node that has lost the lease, and rejects', async () => {
    const { fixture, log, acknowledgements, failures } = await setup();
    await fixture.database.query('INSERT INTO items VALUES (1), (2)');
    const [first, second] = await pass(log);
    await fixture.database.query(
      `UPDATE ${fixture.names.lockTable.sql} SET holder = 'another', token = token + 1`,
    );
    acknowledgements.acknowledgeSoon(first!.sequence!);
    await expect(acknowledgements.acknowledge(second!.sequence!)).rejects.toMatchObject({
      code: 'ERR_LEASE_LOST',
    });
    await expect(acknowledgements.flush()).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    expect(await logged(fixture)).toEqual(['1', '2']);
    expect(failures).toEqual([]); // to lose the lease is none
  });

  test('blocks claims of the lease while its statement runs', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await fixture.database.query('INSERT INTO items VALUES (1)');
    const [change] = await pass(log);
    await fixture.database.query(`
      CREATE TABLE gate (); CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN WHILE EXISTS (SELECT FROM public.gate) LOOP PERFORM pg_sleep(0.005); END LOOP; RETURN OLD; END $$;
      CREATE TRIGGER slow BEFORE DELETE ON ${fixture.names.logTable.sql} FOR EACH ROW EXECUTE FUNCTION pass_gate();
      INSERT INTO gate DEFAULT VALUES`);
    const waiting = (what: string) =>
      until(async () => {
        const sql = `SELECT FROM pg_stat_activity WHERE wait_event_type = $1 AND datname = current_database()`;
        return (await fixture.database.query(sql, [what])).length > 0;
      });
    const acknowledged = acknowledgements.acknowledge(change!.sequence!);
    await waiting('Timeout');
    const claimer = await fixture.database.client();
    const claim = claimer.query(`UPDATE ${fixture.names.lockTable.sql} SET token = token + 1`);
    await waiting('Lock');
    await fixture.database.query('DELETE FROM gate');
    await acknowledged;
    await claim;
    expect(await logged(fixture)).toEqual([]);
  });

  describe('a change that an open transaction holds', () => {
    async function contended() {
      const bundle = await setup();
      await bundle.fixture.database.query('INSERT INTO items VALUES (1), (2), (3), (4)');
      const sequences = (await pass(bundle.log)).map(({ sequence }) => sequence!) as [string, string, string];
      const other = await bundle.fixture.database.client();
      await other.query('BEGIN');
      await other.query(`DELETE FROM ${bundle.fixture.names.logTable.sql} WHERE seq = $1`, [sequences[0]]);
      let settled = false;
      const acknowledged = bundle.acknowledgements.acknowledge(sequences[0]).finally(() => (settled = true));
      acknowledged.catch(() => {});
      return { ...bundle, sequences, other, acknowledged, isSettled: () => settled };
    }

    test('delays neither other changes nor the renewal of the lease', async () => {
      const { fixture, acknowledgements, sequences, other, acknowledged, isSettled, failures } =
        await contended();
      await acknowledgements.acknowledge(sequences[1]);
      acknowledgements.acknowledgeSoon(sequences[2]);
      await acknowledgements.flush();
      expect(await logged(fixture)).toEqual(['1', '4']);
      expect(isSettled()).toBe(false);
      await fixture.database.query(`SELECT FROM ${fixture.names.lockTable.sql} FOR UPDATE NOWAIT`);
      await other.query('COMMIT');
      await acknowledged;
      expect(failures).toEqual([]);
    });

    test.each(['COMMIT', 'ROLLBACK'])('is acknowledged after the %s of that transaction', async (end) => {
      const { fixture, other, acknowledged, isSettled } = await contended();
      await fixture.database.query('INSERT INTO items VALUES (5)');
      expect(isSettled()).toBe(false);
      await other.query(end);
      await acknowledged;
      expect(await logged(fixture)).toEqual(['2', '3', '4', '5']);
    });

    test('comes again when the lease is released first', async () => {
      const { fixture, lease, acknowledgements, other, acknowledged, failures } = await contended();
      await acknowledgements.flush();
      await lease.release();
      await expect(acknowledged).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
      await other.query('ROLLBACK');
      expect(await logged(fixture)).toEqual(['1', '2', '3', '4']);
      expect(failures).toEqual([]);
    });
  });

  test('rejects when its statement fails although the lease is held', async () => {
    const { fixture, log, acknowledgements, failures } = await setup();
    await fixture.database.query('INSERT INTO items VALUES (1)');
    const [change] = await pass(log);
    await fixture.database.query(`ALTER TABLE ${fixture.names.logTable.sql} RENAME TO elsewhere`);
    await expect(acknowledgements.acknowledge(change!.sequence!)).rejects.toThrow('does not exist');
    expect(failures).toHaveLength(1);
  });
});

describe("acknowledging in a transaction of the caller's", () => {
  async function handedOut() {
    const bundle = await setup();
    await bundle.fixture.database.query('INSERT INTO items VALUES (1)');
    const [change] = await pass(bundle.log);
    const event = eventOf(change!, 'test', bundle.lease.token, null);
    return { ...bundle, event, client: await bundle.fixture.database.client() };
  }

  test('takes effect if and only if the transaction commits', async () => {
    const { fixture, event, client, unpack } = await handedOut();
    for (const [end, left] of [
      ['ROLLBACK', ['1']],
      ['COMMIT', []],
    ] as const) {
      await client.query('BEGIN');
      await acknowledgeIn(client, fixture.names, namedBy(event), unpack);
      expect(await logged(fixture)).toEqual(['1']);
      await client.query(end);
      expect(await logged(fixture)).toEqual(left);
    }
  });

  test('is refused for a change that is acknowledged elsewhere, or that another node has', async () => {
    const { fixture, event, client, unpack } = await handedOut();
    await client.query('BEGIN');
    const late = { ...event, fencingToken: '0' };
    await expect(acknowledgeIn(client, fixture.names, namedBy(late), unpack)).rejects.toMatchObject({
      code: 'ERR_LEASE_LOST',
      retryable: false,
    });
    await acknowledgeIn(client, fixture.names, namedBy(event), unpack);
    const other = await fixture.database.client();
    await other.query('BEGIN');
    const acknowledging = acknowledgeIn(other, fixture.names, namedBy(event), unpack);
    const [second] = await Promise.allSettled([acknowledging, client.query('COMMIT')]);
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'ERR_LEASE_LOST' } });
  });
});

describe('a statement that changes many rows', () => {
  const many = (fixture: SessionsFixture, from: number, to: number) =>
    fixture.database.query(`INSERT INTO items SELECT generate_series(${from}, ${to})`);
  const rowsOfLog = async ({ database, names }: SessionsFixture) => {
    const [row] = await database.query(`SELECT count(*)::int AS rows FROM ${names.logTable.sql}`);
    return row.rows as number;
  };

  test('is logged in few rows, and read as one change for each changed row', async () => {
    const { fixture, log, session } = await setup();
    await many(fixture, 1, 250);
    await fixture.database.query('UPDATE items SET id = -id WHERE id <= 60');
    expect(await rowsOfLog(fixture)).toBeLessThan(10);
    const changes = await pass(log, 30);
    const expected = Array.from({ length: 250 }, (_, n) => String(n + 1));
    expect(ids(changes.slice(0, 250))).toEqual(expected);
    const moved = changes.slice(250).map(({ operation, id }) => `${operation} ${id}`);
    expect(moved.toSorted()).toEqual(
      expected
        .slice(0, 60)
        .flatMap((id) => [`create -${id}`, `delete ${id}`])
        .toSorted(),
    );
    expect(moved.findLastIndex((one) => one.startsWith('delete'))).toBe(59);
    const sequences = changes.map(({ sequence }) => BigInt(sequence!));
    expect(new Set(sequences).size).toBe(370);
    expect(sequences).toEqual(sequences.toSorted((a, b) => Number(a - b)));
    expect(new Set(changes.map(({ key }) => key))).toEqual(new Set(['id']));
    expect(await session.query(changeLogSql(fixture.names).backlog)).toMatchObject([{ backlog: 370 }]);
  });

  test.each([
    ['short', (n: number) => `${n}`],
    ['long', (n: number) => `${n} and more than thirteen characters`],
    ['empty or of separators', (n: number) => ['', ',', ' ', '[', ']', "'", ', ', "','"][n] ?? `${n}`],
    ['of quotes', (n: number) => ['"', '","', '""', '"]', '["'][n] ?? `${n}`],
    ['of backslashes', (n: number) => ['\\', '\\n', '\\","'][n] ?? `${n}`],
    ['of control characters', (n: number) => ['\n', '\t', '\u0001', '\u007f', '\u2028'][n] ?? `${n}`],
    ['beyond ASCII', (n: number) => ['é', '😀', 'ß","'][n] ?? `${n}`],
  ])('is read with its ids as they are if they are %s', async (_, idOf) => {
    const { fixture, session, log } = await setup();
    await fixture.database.query('CREATE TABLE texts (id text PRIMARY KEY)');
    await install(session, fixture.settings, fixture.names);
    const written = Array.from({ length: 60 }, (_, n) => idOf(n));
    await fixture.database.query('INSERT INTO texts SELECT unnest($1::text[])', [written]);
    expect(await rowsOfLog(fixture)).toBe(1);
    expect(ids(await pass(log))).toEqual(written);
  });

  test.each([
    ['one after the other', (changes: Change[]) => changes],
    ['in any order', (changes: Change[]) => changes.toSorted((a, b) => (a.id < b.id ? -1 : 1))],
  ])('is acknowledged %s, and the rest stays as it was', async (_, inOrder) => {
    const { fixture, session, open, log, acknowledgements } = await setup();
    await fixture.database.query('CREATE TABLE pairs (a int, b text, PRIMARY KEY (a, b))');
    await install(session, fixture.settings, fixture.names);
    await fixture.database.query(`INSERT INTO pairs SELECT n, 'say "' || n FROM generate_series(1, 120) n`);
    let left = inOrder(await pass(log));
    expect(left).toHaveLength(120);
    for (const count of [1, 1, 7, 60, 30, 21]) {
      for (const { sequence } of left.slice(0, count)) acknowledgements.acknowledgeSoon(sequence!);
      await acknowledgements.flush();
      left = left.slice(count);
      const again = await pass(open());
      expect(again).toEqual(left.toSorted((a, b) => Number(BigInt(a.sequence!) - BigInt(b.sequence!))));
      expect(await pass(log)).toEqual([]);
    }
    expect(await rowsOfLog(fixture)).toBe(0);
  });

  test('is read to its end when a part of it is acknowledged and no change follows', async () => {
    const { fixture, open, log, acknowledgements } = await setup();
    // Its row is the last one of a window.
    await fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', ${100_000 - 1})`);
    await many(fixture, 1, 100);
    const [first] = await pass(log);
    await acknowledgements.acknowledge(first!.sequence!);
    for (const rows of [10, 99, 1000]) expect(await pass(open(), rows)).toHaveLength(99);
  });

  test('is read further in the same pass when the part already read is acknowledged', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 300);
    const { changes } = await log.readPage(10);
    expect(changes).toHaveLength(100);
    for (const { sequence } of changes.slice(0, 50)) acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(ids(await pass(log))[0]).toBe('101');
  });

  test('is neither delayed nor forgotten when another transaction holds one of its rows', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 200);
    const changes = await pass(log);
    const other = await fixture.database.client();
    await other.query(`BEGIN; SELECT FROM ${fixture.names.logTable.sql} ORDER BY seq LIMIT 1 FOR UPDATE`);
    for (const { sequence } of changes) acknowledgements.acknowledgeSoon(sequence!);
    await until(async () => (await rowsOfLog(fixture)) === 1);
    await other.query('COMMIT');
    await until(async () => (await rowsOfLog(fixture)) === 0);
    expect(await pass(log)).toEqual([]);
  });

  test('is acknowledged in several transactions of the caller at once', async () => {
    const { fixture, log, lease, unpack } = await setup();
    await many(fixture, 1, 100);
    const events = (await pass(log)).map((change) => eventOf(change, 'test', lease.token, null));
    const clients = await Promise.all(events.slice(0, 5).map(() => fixture.database.client()));
    for (const [n, client] of clients.entries()) {
      await client.query("BEGIN; SET LOCAL lock_timeout = '5s'");
      await acknowledgeIn(client, fixture.names, namedBy(events[n]!), unpack);
    }
    await clients[0]!.query('ROLLBACK');
    for (const client of clients.slice(1)) await client.query('COMMIT');
    expect(await logged(fixture)).toEqual(['1', ...ids(events).slice(5)]);
    await expect(
      acknowledgeIn(clients[0]!, fixture.names, namedBy(events[1]!), unpack),
    ).rejects.toMatchObject({
      code: 'ERR_LEASE_LOST',
    });
  });

  test('is not unpacked for a caller whose event came under another lease, or was acknowledged', async () => {
    const { fixture, log, lease, unpack, sessions } = await setup();
    await many(fixture, 1, 100);
    const [event] = (await pass(log)).map((change) => eventOf(change, 'test', lease.token, null));
    const client = await fixture.database.client();
    const lost = { code: 'ERR_LEASE_LOST' };
    await client.query('BEGIN');
    const late = { ...event!, fencingToken: '0' };
    await expect(acknowledgeIn(client, fixture.names, namedBy(late), unpack)).rejects.toMatchObject(lost);
    expect(sessions.opened).toBe(0);
    await acknowledgeIn(client, fixture.names, namedBy(event!), unpack);
    await client.query('COMMIT; BEGIN');
    await expect(acknowledgeIn(client, fixture.names, namedBy(event!), unpack)).rejects.toMatchObject(lost);
    expect(sessions.opened).toBe(1);
    expect(await logged(fixture)).toHaveLength(99);
  });

  test('fails the acknowledgement in a transaction with an older snapshot, so that it is retried', async () => {
    const { fixture, log, lease, unpack } = await setup();
    await many(fixture, 1, 100);
    const [event] = (await pass(log)).map((change) => eventOf(change, 'test', lease.token, null));
    const client = await fixture.database.client();
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM items');
    // serialization_failure
    const refused = { code: '40001' };
    await expect(acknowledgeIn(client, fixture.names, namedBy(event!), unpack)).rejects.toMatchObject(
      refused,
    );
    await client.query('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ');
    await acknowledgeIn(client, fixture.names, namedBy(event!), unpack);
    await client.query('COMMIT');
    expect(await logged(fixture)).toHaveLength(99);
  });

  test('is never acknowledged as a whole for one of its changes', async () => {
    const { fixture, log, lease } = await setup();
    await many(fixture, 1, 100);
    const [event] = (await pass(log)).map((change) => eventOf(change, 'test', lease.token, null));
    const client = await fixture.database.client();
    await client.query('BEGIN');
    // As when a failover has lost what the session did.
    await expect(acknowledgeIn(client, fixture.names, namedBy(event!), async () => {})).rejects.toThrow(
      'division by zero',
    );
    await client.query('COMMIT');
    expect(await pass(log)).toEqual([]);
    expect(await rowsOfLog(fixture)).toBe(1);
  });

  test('is acknowledged also when another session unpacks it meanwhile', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 100);
    const [first, second] = await pass(log);
    const row = `${first!.sequence!.slice(0, -3)}000`;
    const other = await fixture.database.client();
    await other.query('BEGIN');
    await other.query(acknowledgementsSql(fixture.names).unpack.text, ['{}', `{${row}}`]);
    const acknowledged = acknowledgements.acknowledge(second!.sequence!);
    await until(async () => {
      // It waits, or has already waited for as long as it does: then it asks for the changes that are not locked.
      const waiting = `
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (wait_event_type = 'Lock' OR query LIKE '%SKIP LOCKED%')`;
      return (await fixture.database.query(waiting)).length > 0;
    });
    await other.query('COMMIT');
    await acknowledged;
    expect(await rowsOfLog(fixture)).toBe(99);
  });

  /** Writes down each row that is put into the log. */
  const watchLog = async ({ database, names }: SessionsFixture) => {
    await database.query(`
      CREATE TABLE put (seq bigint);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.put VALUES (NEW.seq); RETURN NEW; END $$;
      CREATE TRIGGER note BEFORE INSERT ON ${names.logTable.sql} FOR EACH ROW EXECUTE FUNCTION note()`);
    return async () => (await database.query('SELECT count(*)::int AS n FROM put'))[0].n as number;
  };

  test('is acknowledged as a whole where its changes go together, and nothing is put back', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 250);
    const putBack = await watchLog(fixture);
    for (const { sequence } of await pass(log, 1000)) acknowledgements.acknowledgeSoon(sequence!);
    await until(async () => (await rowsOfLog(fixture)) === 0);
    expect(await putBack()).toBe(0);
  });

  test('is not acknowledged as a whole for a part of it after which other changes come', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 100);
    await many(fixture, 101, 200);
    const changes = await pass(log, 1000);
    const [part, rest, other] = [changes.slice(0, 60), changes.slice(60, 100), changes.slice(100)];
    for (const { sequence } of [...part, ...other]) acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(await logged(fixture)).toEqual(ids(rest));
  });

  /** How often changes were asked to be deleted. Each time makes the disk flush. */
  const countDeletes = (session: Session) => {
    const query = vi.spyOn(session, 'query');
    return () =>
      query.mock.calls.filter(([statement]) => typeof statement === 'object' && 'name' in statement).length;
  };

  test('is acknowledged by one statement also where its changes come in another order', async () => {
    const { fixture, session, log, acknowledgements } = await setup();
    await many(fixture, 1, 200);
    const changes = await pass(log, 1000);
    [changes[2], changes[3]] = [changes[3]!, changes[2]!];
    const deletes = countDeletes(session);
    for (const { sequence } of changes) acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(deletes()).toBe(1);
    expect(await rowsOfLog(fixture)).toBe(0);
  });

  test('is acknowledged in part by two statements at most', async () => {
    const { fixture, session, log, acknowledgements } = await setup();
    await many(fixture, 1, 200);
    const changes = await pass(log, 1000);
    const deletes = countDeletes(session);
    for (const { sequence } of [...changes.slice(0, 60), ...changes.slice(100)])
      acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(deletes()).toBe(2);
    expect(await rowsOfLog(fixture)).toBe(40);
  });

  test('is acknowledged one by one if it was unpacked before', async () => {
    const { fixture, session, log, acknowledgements } = await setup();
    await many(fixture, 1, 100);
    await many(fixture, 101, 200);
    const changes = await pass(log, 1000);
    const row = `${changes[0]!.sequence!.slice(0, -3)}000`;
    await session.query(acknowledgementsSql(fixture.names).unpack, ['{}', `{${row}}`]);
    for (const { sequence } of changes) acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(await logged(fixture)).toEqual([]);
  });

  test('of which the first changes are acknowledged is waited for once: its others may follow', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 200);
    const putBack = await watchLog(fixture);
    const changes = await pass(log, 1000);
    const acknowledge = (some: Change[]) => {
      for (const { sequence } of some) acknowledgements.acknowledgeSoon(sequence!);
    };
    acknowledge(changes.slice(0, 130));
    await until(async () => (await rowsOfLog(fixture)) === 70);
    expect(await putBack()).toBe(70);
    expect(await logged(fixture)).toEqual(ids(changes.slice(130)));
  });

  test('is not read again from its start when a page ends inside of it', async () => {
    const { fixture, open, acknowledgements } = await setup();
    // It begins where a window ends.
    await fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', ${100_000 - 1})`);
    await many(fixture, 1, 100);
    const log = open(0);
    const { changes, last } = await log.readPage(1000);
    expect({ count: changes.length, last }).toEqual({ count: 100, last: false });
    for (const { sequence } of changes.slice(0, 50)) acknowledgements.acknowledgeSoon(sequence!);
    await acknowledgements.flush();
    expect(await pass(log, 1000)).toEqual([]);
  });

  describe("and whose number is another row's, since the sequence was set back", () => {
    /** One of a hundred changes is acknowledged, and a single row gets the number of the packed one. */
    async function takenAgain() {
      const bundle = await setup();
      const { fixture, log, acknowledgements } = bundle;
      await many(fixture, 1, 100);
      const changes = await pass(log);
      await acknowledgements.acknowledge(changes[0]!.sequence!);
      const row = writtenRow(changes[0]!.sequence!);
      await fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', $1, false)`, [
        BigInt(row) / 1000n,
      ]);
      await fixture.database.query('INSERT INTO items VALUES (1000)');
      expect(
        await fixture.database.query(`SELECT id FROM ${fixture.names.logTable.sql} WHERE seq = $1`, [row]),
      ).toEqual([{ id: '1000' }]);
      return { ...bundle, changes };
    }

    test('is acknowledged without that row', async () => {
      const { fixture, changes, acknowledgements } = await takenAgain();
      await acknowledgements.acknowledge(changes[1]!.sequence!);
      expect(await logged(fixture)).toEqual(['1000', ...ids(changes.slice(2))]);
      for (const { sequence } of changes) acknowledgements.acknowledgeSoon(sequence!);
      await acknowledgements.flush();
      expect(await logged(fixture)).toEqual(['1000']);
    });

    test('stays where the acknowledged change is the single row that had the number before', async () => {
      const { fixture, log, acknowledgements } = await setup();
      await fixture.database.query('INSERT INTO items VALUES (999), (1000)');
      const [first, change] = await pass(log);
      // The first acknowledgement of a term is made as that of any change.
      await acknowledgements.acknowledge(first!.sequence!);
      await fixture.database.query(`DELETE FROM ${fixture.names.logTable.sql}`);
      await fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', $1, false)`, [
        BigInt(change!.sequence!) / 1000n,
      ]);
      await many(fixture, 1, 100);
      await acknowledgements.acknowledge(change!.sequence!);
      expect(await rowsOfLog(fixture)).toBe(1);
    });

    test('is acknowledged without that row also while another transaction has some of its changes', async () => {
      const { fixture, changes, acknowledgements } = await takenAgain();
      const other = await fixture.database.client();
      await other.query('BEGIN');
      await other.query(`SELECT FROM ${fixture.names.logTable.sql} WHERE seq = $1 FOR UPDATE`, [
        changes[2]!.sequence,
      ]);
      const both = changes.slice(1, 3).map(({ sequence }) => acknowledgements.acknowledge(sequence!));
      await both[0];
      expect(await logged(fixture)).toEqual(['1000', ...ids(changes.slice(2))]);
      await other.query('COMMIT');
      await both[1];
      expect(await logged(fixture)).toEqual(['1000', ...ids(changes.slice(3))]);
    });
  });

  describe('and whose number another packed row gets, since the sequence was set back', () => {
    /** Of a hundred changes some are left as single rows, and those of another statement get the number of their row. */
    async function packedAgain(left: number[], size = 100) {
      const bundle = await setup();
      const { fixture, log, acknowledgements } = bundle;
      await many(fixture, 1, 100);
      const changes = await pass(log);
      for (const { id, sequence } of changes)
        if (!left.includes(Number(id))) acknowledgements.acknowledgeSoon(sequence!);
      await acknowledgements.flush();
      if (left.length === 100) await bundle.unpack(writtenRow(changes[0]!.sequence!));
      const writeAgain = async (first: number, last: number) => {
        await fixture.database.query(`SELECT setval('${fixture.names.logSequence.sql}', $1, false)`, [
          BigInt(writtenRow(changes[0]!.sequence!)) / 1000n,
        ]);
        await many(fixture, first, last);
      };
      await writeAgain(1001, 1000 + size);
      const old = changes.filter(({ id }) => left.includes(Number(id)));
      return { ...bundle, old, writeAgain, written: range(1001, 1000 + size) };
    }
    const range = (first: number, last: number) =>
      Array.from({ length: last - first + 1 }, (_, n) => String(first + n));
    /** The ids of all changes in the log, however they are stored. */
    const allLogged = async ({ database, names }: SessionsFixture) =>
      (
        await database.query(`
          SELECT id FROM ${names.logTable.sql} WHERE size IS NULL
          UNION ALL SELECT json_array_elements_text(id::json) FROM ${names.logTable.sql} WHERE size IS NOT NULL
          ORDER BY id`)
      ).map(({ id }) => id as string);

    test.each([[[100]], [[1, 50, 100]], [range(2, 100).map(Number)]])(
      'is read with other numbers after the changes that were left, and acknowledged apart from them (%j)',
      async (left) => {
        const { fixture, open, old, written, acknowledgements, failures } = await packedAgain(left);
        const next = open();
        // A page ends within them.
        const changes = await pass(next, 10);
        expect(ids(changes)).toEqual([...ids(old), ...written]);
        const sequences = changes.map(({ sequence }) => BigInt(sequence!));
        expect(sequences).toEqual([...new Set(sequences)].toSorted((a, b) => (a < b ? -1 : 1)));
        expect(changes.slice(0, old.length)).toEqual(old);
        expect(await pass(open(), 1000)).toEqual(changes);
        // A part of either, at the same places.
        for (const n of [0, old.length, changes.length - 1])
          await acknowledgements.acknowledge(changes[n]!.sequence!);
        expect(await allLogged(fixture)).toEqual([...ids(old).slice(1), ...written.slice(1, -1)].toSorted());
        for (const { sequence } of changes) acknowledgements.acknowledgeSoon(sequence!);
        await acknowledgements.flush();
        expect(await rowsOfLog(fixture)).toBe(0);
        expect(await pass(next)).toEqual([]);
        expect(failures).toEqual([]);
      },
    );

    test.each([
      ['a part of them', [1, 50, 100], 1],
      ['the last of them', [50], 1],
      ['all that were left', [1, 50, 100], 3],
      ['as many as the new row has, together', range(1, 60).map(Number), 60],
      ['all of the row before, together', range(1, 100).map(Number), 100],
    ])('is not touched, before it was read, by who acknowledges %s', async (_, left, count) => {
      const { fixture, log, old, written, acknowledgements, failures } = await packedAgain(
        left,
        left.length === 60 ? 60 : 100,
      );
      // Changes of another row follow, so that those of a row may be all that it had.
      await many(fixture, 2001, 2060);
      const more = await fixture.database.query(`SELECT max(seq) FROM ${fixture.names.logTable.sql}`);
      const acknowledged = old.slice(0, count).map(({ sequence }) => sequence!);
      const others = range(1, 60).map((n) => String(BigInt(more[0]!['max']) + BigInt(n)));
      for (const sequence of [...acknowledged, ...others]) acknowledgements.acknowledgeSoon(sequence);
      await acknowledgements.flush();
      expect(await allLogged(fixture)).toEqual([...ids(old.slice(count)), ...written].toSorted());
      expect(ids(await pass(log))).toEqual(written);
      expect(failures).toEqual([]);
    });

    test('is not touched, before it was read, where an acknowledgement is made twice', async () => {
      const { fixture, old, written, acknowledgements } = await packedAgain([50]);
      // The log does not have one of them, so that they are looked for again.
      for (const sequence of [old[0]!.sequence!, '999000']) acknowledgements.acknowledgeSoon(sequence);
      await acknowledgements.flush();
      expect(await allLogged(fixture)).toEqual(written);
    });

    test('is not touched, before it was read, while another transaction has some of the changes that were left', async () => {
      const { fixture, log, old, written, acknowledgements } = await packedAgain([1, 50, 100]);
      const other = await fixture.database.client();
      await other.query('BEGIN');
      await other.query(`SELECT FROM ${fixture.names.logTable.sql} WHERE seq = $1 FOR UPDATE`, [
        old[1]!.sequence,
      ]);
      const both = old.slice(0, 2).map(({ sequence }) => acknowledgements.acknowledge(sequence!));
      await both[0];
      expect(await allLogged(fixture)).toEqual([...written, ...ids(old.slice(1))].toSorted());
      await other.query('COMMIT');
      await both[1];
      expect(await allLogged(fixture)).toEqual([...written, ...ids(old.slice(2))].toSorted());
      expect(ids(await pass(log))).toEqual(written);
    });

    test("is acknowledged in callers' transactions apart from the changes that were left", async () => {
      const { fixture, open, old, written, lease, unpack, acknowledgements } = await packedAgain([
        1, 50, 100,
      ]);
      const client = await fixture.database.client();
      const acknowledge = async (change: Change) => {
        await client.query('BEGIN');
        const event = eventOf(change, 'test', lease.token, null);
        await acknowledgeIn(client, fixture.names, namedBy(event), unpack);
        await client.query('COMMIT');
      };
      // What asks for the row as it was finds another one.
      await unpack(writtenRow(old[0]!.sequence!));
      await acknowledge(old[0]!);
      expect(await acknowledgements.isGone(old[0]!.sequence!)).toBe(true);
      expect(await acknowledgements.isGone(old[1]!.sequence!)).toBe(false);
      await expect(acknowledge(old[0]!)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
      await client.query('ROLLBACK');
      const changes = await pass(open());
      for (const n of [0, 2, 51]) await acknowledge(changes[n]!);
      expect(await allLogged(fixture)).toEqual(
        ids(changes)
          .filter((__, n) => ![0, 2, 51].includes(n))
          .toSorted(),
      );
      expect(ids(changes)).toEqual([...ids(old).slice(1), ...written]);
    });

    test('is told apart also when that happens again and again', async () => {
      const { open, old, written, writeAgain, acknowledgements } = await packedAgain([1, 50, 100]);
      const log = open();
      const changes = await pass(log);
      await acknowledgements.acknowledge(changes[3]!.sequence!);
      await writeAgain(3001, 3060);
      changes.push(...(await pass(log)));
      expect(new Set(changes.map(({ sequence }) => sequence)).size).toBe(changes.length);
      expect(ids(changes)).toEqual([...ids(old), ...written, ...range(3001, 3060)]);
      changes.splice(3, 1);
      expect(await pass(open())).toEqual(changes);
    });

    test('is neither read nor moved by a node that has lost the lease', async () => {
      const { fixture, open, old } = await packedAgain([1, 50, 100]);
      await fixture.database.query(`UPDATE ${fixture.names.lockTable.sql} SET token = token + 1`);
      expect(await pass(open())).toEqual([]);
      expect(await rowsOfLog(fixture)).toBe(old.length + 1);
    });
  });

  test('is left as it is by a node that has lost the lease', async () => {
    const { fixture, log, acknowledgements } = await setup();
    await many(fixture, 1, 100);
    const [first] = await pass(log);
    await fixture.database.query(`UPDATE ${fixture.names.lockTable.sql} SET token = token + 1`);
    const refused = { code: 'ERR_LEASE_LOST' };
    await expect(acknowledgements.acknowledge(first!.sequence!)).rejects.toMatchObject(refused);
    expect(await rowsOfLog(fixture)).toBe(1);
  });
});
