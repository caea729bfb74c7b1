/** The example that makes every change a job: one job for each change, done once and in each row's order, whoever is killed. */
import { expect, onTestFinished, test } from 'vitest';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { type NodeProcess, spawnNode } from '../support/processes.ts';
import { until } from '../support/until.ts';

const LOG = 'postgres_input.log_postgres_input_orders';
const LOCK = 'postgres_input.lock_postgres_input_orders';
const ROWS = 20;
/** The advisory locks that the insertion of a job, and of a shipment, waits for. */
const JOBS = 4711;
const SHIPMENTS = 4712;

const TABLES = `
CREATE TABLE orders (id int PRIMARY KEY, status text);
CREATE TABLE shipments (sequence numeric PRIMARY KEY, order_id int, n int GENERATED ALWAYS AS IDENTITY);
CREATE SEQUENCE attempts;
CREATE FUNCTION pass_or_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_advisory_xact_lock_shared(${SHIPMENTS});
  IF nextval('attempts') % 11 = 0 THEN RAISE 'the shipment fails'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER pass_or_fail BEFORE INSERT ON shipments FOR EACH ROW EXECUTE FUNCTION pass_or_fail()`;

/** To be run once graphile-worker's tables are there. */
const NOTES_OF_JOBS = `
CREATE TABLE added (sequence text);
CREATE FUNCTION note_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_advisory_xact_lock_shared(${JOBS});
  INSERT INTO added VALUES (NEW.payload ->> 'sequence');
  RETURN NULL;
END $$;
CREATE TRIGGER note_job AFTER INSERT ON graphile_worker._private_jobs FOR EACH ROW EXECUTE FUNCTION note_job()`;

test('each change becomes one job, which is done once and in order, although dispatchers and a worker are killed', async () => {
  await using database = await createDatabase();
  await database.query(TABLES);
  const [first, gate] = [start(database, 'fan-out.ts'), await database.client()];
  await until(
    async () => (await holder(database)) !== null,
    60_000,
    () => first.output(),
  );
  await database.query(NOTES_OF_JOBS);
  const [killed, worker] = [start(database, 'fan-out/worker.ts'), start(database, 'fan-out/worker.ts')];
  const second = start(database, 'fan-out.ts');
  let changes = 0;
  const write = async () => {
    await database.query(
      `INSERT INTO orders SELECT n, 'new' FROM generate_series(1, ${ROWS}) n ON CONFLICT (id) DO UPDATE SET status = 'new'`,
    );
    for (let id = 1; id <= ROWS; id++)
      await database.query(`UPDATE orders SET status = 'paid' WHERE id = $1`, [id]);
    changes += 2 * ROWS;
  };

  // A dispatcher is killed when it has added jobs, and is about to acknowledge.
  await gate.query('SELECT pg_advisory_lock($1)', [JOBS]);
  await write();
  await until(() => isWaiting(database, '%add_job%'), 30_000);
  const dead = await holder(database);
  await kill(database, first);

  // The next one is killed while it acknowledges.
  await until(async () => ![dead, null].includes(await holder(database)), 30_000);
  const third = start(database, 'fan-out.ts');
  await until(() => isWaiting(database, '%add_job%'), 30_000);
  await gate.query(`BEGIN; SELECT FROM ${LOG} FOR UPDATE`);
  await gate.query('SELECT pg_advisory_unlock_all()');
  await until(() => isWaiting(database, `%DELETE FROM%${LOG.split('.')[1]}%`), 30_000);
  await kill(database, second);
  await gate.query('COMMIT');
  await write();
  await until(async () => (await database.query(`SELECT FROM ${LOG}`)).length === 0, 60_000);

  // A worker is killed while it does jobs.
  await gate.query('SELECT pg_advisory_lock($1)', [SHIPMENTS]);
  await write();
  await until(() => isWaiting(database, '%INSERT INTO shipments%', 8), 30_000);
  killed.signal('SIGKILL');
  await killed.exited;
  await gate.query('SELECT pg_advisory_unlock_all()');
  const shipped = () => database.query('SELECT sequence::text, order_id FROM shipments ORDER BY order_id, n');
  await until(
    async () => (await shipped()).length === changes,
    60_000,
    () => worker.output(),
  );

  const added = (await database.query('SELECT sequence FROM added')).map(({ sequence }) => sequence);
  expect(new Set(added).size).toBe(changes);
  expect(added).toHaveLength(changes);
  const inOrder = await database.query(
    'SELECT sequence::text, order_id FROM shipments s ORDER BY order_id, s.sequence',
  );
  expect(await shipped()).toEqual(inOrder);
  for (const one of [third, worker]) {
    one.signal('SIGTERM');
    expect(await one.exited, one.output()).toEqual({ code: 0, signal: null });
  }
  expect(await database.query('SELECT FROM graphile_worker.jobs')).toEqual([]);
}, 240_000);

function start(database: TestDatabase, file: string) {
  const url = new URL(database.url);
  url.searchParams.set('connect_timeout', '15');
  const program = spawnNode<never>(new URL(`../../examples/${file}`, import.meta.url), { args: [url.href] });
  onTestFinished(() => program[Symbol.asyncDispose]());
  return program;
}

/** With its sessions: one that waits for a lock would go on until it has the lock. */
async function kill(database: TestDatabase, program: NodeProcess<never>): Promise<void> {
  program.signal('SIGKILL');
  await program.exited;
  await database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  await until(async () => !(await isWaiting(database, '%')));
}

/** The active dispatcher's name for itself. */
async function holder(database: TestDatabase): Promise<string | null> {
  const [made] = await database.query(`SELECT to_regclass('${LOCK}') AS name`);
  if (made.name === null) return null;
  return (await database.query(`SELECT holder FROM ${LOCK}`))[0].holder;
}

/** Whether so many sessions wait for a lock in such a statement. */
async function isWaiting(database: TestDatabase, statement: string, sessions = 1): Promise<boolean> {
  const rows = await database.query(
    `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`,
    [statement],
  );
  return rows.length >= sessions;
}
