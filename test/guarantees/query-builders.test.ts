import { expect, test } from 'vitest';
import { setupProgram } from '../support/setup-program.ts';
import { until } from '../support/until.ts';

test('the example with Drizzle writes one row of the audit trail for each change, although a node dies while it writes', async () => {
  await using fixture = await setup(
    'drizzle',
    'audit',
    `CREATE TABLE audit (sequence text, operation text, order_id text, actor text, reason jsonb, changed_at timestamptz,
       before jsonb, after jsonb)`,
  );
  const { database } = fixture;
  await fixture.dieWhileWriting(`BEGIN;
    SELECT set_config('postgres_input.origin', 'ada', true), set_config('postgres_input.context', '{"ticket": 7}', true);
    INSERT INTO orders VALUES (1, 'ada@example.org', 'new');
    COMMIT`);
  await database.query(`UPDATE orders SET status = 'paid'`);
  await database.query(`DELETE FROM orders`);
  await fixture.finish();

  expect(
    await database.query('SELECT operation, order_id, actor, reason FROM audit ORDER BY changed_at'),
  ).toEqual([
    { operation: 'create', order_id: '1', actor: 'ada', reason: { ticket: 7 } },
    { operation: 'update', order_id: '1', actor: null, reason: null },
    { operation: 'delete', order_id: '1', actor: null, reason: null },
  ]);
  const order = { id: 1, email: 'ada@example.org' };
  expect(await database.query('SELECT before, after FROM audit ORDER BY changed_at')).toEqual([
    { before: null, after: { ...order, status: 'new' } },
    { before: { ...order, status: 'new' }, after: { ...order, status: 'paid' } },
    { before: { ...order, status: 'paid' }, after: null },
  ]);
});

test('the example with Kysely writes one mail when a status turns to shipped, although a node dies while it writes', async () => {
  await using fixture = await setup('kysely', 'mails', 'CREATE TABLE mails (order_id int, recipient text)');
  const { database } = fixture;
  await database.query(
    `INSERT INTO orders SELECT n, n || '@example.org', 'new' FROM generate_series(1, 3) n`,
  );
  await database.query(`UPDATE orders SET status = 'paid'`);
  await fixture.dieWhileWriting(`UPDATE orders SET status = 'shipped' WHERE id = 1`);
  await database.query(`UPDATE orders SET email = 'new@example.org' WHERE id = 1`);
  await database.query(`UPDATE orders SET status = 'shipped' WHERE id = 2`);
  await database.query(`UPDATE orders SET status = 'paid' WHERE id = 2`);
  await fixture.finish();

  expect(await database.query('SELECT * FROM mails ORDER BY order_id')).toEqual([
    { order_id: 1, recipient: '1@example.org' },
    { order_id: 2, recipient: '2@example.org' },
  ]);
});

const GATE = 4711;

/** Two nodes of an example, and a table that it writes to, where an insertion waits for as long as the test holds the gate. */
async function setup(example: 'kysely' | 'drizzle', effects: string, ddl: string) {
  const program = await setupProgram(
    { file: `${example}.ts`, input: effects },
    `CREATE TABLE orders (id int PRIMARY KEY, email text, status text); ${ddl};
    CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_advisory_xact_lock(${GATE}); RETURN NULL; END $$;
    CREATE TRIGGER pass AFTER INSERT ON ${effects} FOR EACH ROW EXECUTE FUNCTION pass()`,
  );
  const { database, first } = program;
  const gate = await database.client();
  const second = program.start();

  return {
    database,
    /** Makes a change, and kills the node that has written for that and waits at the gate. */
    async dieWhileWriting(change: string): Promise<void> {
      await gate.query('SELECT pg_advisory_lock($1)', [GATE]);
      await database.query(change);
      await until(async () => {
        const waiting = await database.query(
          `SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
          [GATE],
        );
        return waiting.length > 0;
      });
      first.signal('SIGKILL');
      await first.exited;
      await gate.query('SELECT pg_advisory_unlock($1)', [GATE]);
    },
    /** Waits until every change is acknowledged, and ends the node that is left. */
    async finish(): Promise<void> {
      expect(await program.finish(second)).toBe('');
    },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}
