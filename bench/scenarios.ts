/** What is measured. One contestant, one round, a database of its own; run.ts interleaves the rounds. */
import { setTimeout as delay } from 'node:timers/promises';
import { readPayload } from '../src/capture/notification.ts';
import { existingRows, writersMeanwhile } from './backfill.ts';
import { Child } from './child.ts';
import type { Lab, Stage } from './lab.ts';
import { type Metrics, type Scenario, ascending, quantile } from './scenario.ts';
import { tableNames } from './tables.ts';

const everybody = [
  'none',
  'original',
  'ours',
  'pg-pubsub',
  'outbox',
  'graphile-worker',
  'pg-boss',
  'pg-logical-replication',
  'postgres',
];
const durable = ['ours', 'outbox', 'graphile-worker', 'pg-boss', 'pg-logical-replication'];
/** Where the others would take minutes, and would say nothing that the other measurements do not. */
const few = ['none', 'original', 'ours', 'pg-logical-replication'];

/** Those that bring rows, beside those that bring none. */
const withRows = ['none', 'original', 'ours', 'ours-rows', 'row-to-json', 'pg-logical-replication-full'];

/** A table of twelve columns, whose INSERTs name the first two. */
const TYPICAL = `note text, customer_id bigint NOT NULL DEFAULT 4711, status text NOT NULL DEFAULT 'pending',
  total numeric(12, 2) NOT NULL DEFAULT 1234.56, currency char(3) NOT NULL DEFAULT 'EUR', email text DEFAULT 'customer@example.com',
  paid boolean NOT NULL DEFAULT false, items int NOT NULL DEFAULT 3,
  attributes jsonb DEFAULT '{"gift": true, "channel": "web", "tags": ["a", "b"]}',
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz`;

interface RowOptions {
  /** On the table of twelve columns. */
  readonly typical?: boolean;
}
const tableOf = ({ typical }: RowOptions): string | undefined => (typical ? TYPICAL : undefined);
const keyOf = ({ typical }: RowOptions): string => (typical ? '-rows' : '');
const titleOf = ({ typical }: RowOptions): string => (typical ? ', a table of 12 columns' : '');

const delivers = (stage: Stage): boolean => stage.contestant.by !== 'nothing';

async function completeness(stage: Stage, rows: number): Promise<Metrics> {
  if (!delivers(stage)) return {};
  const { delivered, repeated } = await stage.delivered(rows);
  return { undelivered: rows - delivered, repeated };
}

const fill = (stage: Stage, rows: number, from = 0): Promise<unknown> =>
  stage.client.query(
    `INSERT INTO item (id, note) SELECT n, 'row ' || n FROM generate_series(${from + 1}, ${from + rows}) n`,
  );

/** The same, by a statement for each row. */
const fillOneByOne = (stage: Stage, rows: number): Promise<unknown> =>
  stage.client.query(
    `DO $$ BEGIN FOR n IN 1..${rows} LOOP INSERT INTO item (id, note) VALUES (n, 'row ' || n); END LOOP; END $$`,
  );

/** Writers as fast as they go, with a live consumer. */
const throughput = (
  clients: number,
  contestants: readonly string[],
  {
    statements = 1,
    rows: existing = 0,
    ...options
  }: { statements?: number; rows?: number } & RowOptions = {},
): Scenario => ({
  key: `a${clients}${statements > 1 ? `x${statements}` : ''}${existing ? `-${existing}` : ''}${keyOf(options)}`,
  title: `rows written per second by ${clients} client(s), ${statements} row(s) per transaction, while they are consumed${existing ? `, ${existing} rows in the table` : ''}${titleOf(options)}`,
  contestants,
  baseline: 'none',
  chart: 'rows/s',
  rounds: 3,
  ...(statements === 1 &&
    existing === 0 &&
    !options.typical && { point: { curve: 'writers', at: clients } as const }),
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant, tableOf(options));
    if (existing > 0) await fill(stage, existing, 100_000_000);
    await stage.install();
    await stage.consume();
    const { rows, rate } = await stage.write({ clients, statements, duration: 2000, firstId: 1 });
    const live = delivers(stage) ? { 'delivered meanwhile': (await stage.report()).delivered / rows } : {};
    return { 'rows/s': rate, ...live, ...(await completeness(stage, rows)) };
  },
});

/** One statement that changes many rows. */
const bulk = (kind: 'INSERT' | 'UPDATE', rows: number, rounds = 3, options: RowOptions = {}): Scenario => ({
  key: `b-${kind.toLowerCase()}-${rows}${keyOf(options)}`,
  title: `one ${kind} of ${rows} rows${titleOf(options)}`,
  contestants: options.typical ? withRows : rows > 100_000 ? ['none', 'original', 'ours'] : few,
  baseline: 'none',
  chart: 'statement ms',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant, tableOf(options));
    if (kind === 'UPDATE') await fill(stage, rows);
    await stage.client.query('VACUUM ANALYZE item');
    await stage.install();
    await stage.consume();
    const began = performance.now();
    await (kind === 'INSERT' ? fill(stage, rows) : stage.client.query(`UPDATE item SET note = 'changed'`));
    const statement = performance.now() - began;
    const complete = await completeness(stage, rows);
    return { 'statement ms': statement, 'until all delivered ms': performance.now() - began, ...complete };
  },
});

/** Statements of one row each, one after the other in one transaction, which no flush delays. */
const singleUpdates: Scenario = {
  key: 'update-rows',
  title: 'an UPDATE of one row, of 10,000 in one transaction, a table of 12 columns',
  contestants: withRows,
  baseline: 'ours',
  chart: 'UPDATE us',
  rounds: 5,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant, TYPICAL);
    const rows = 10_000;
    await fill(stage, rows);
    await stage.install();
    await stage.client.query('VACUUM ANALYZE item');
    const began = performance.now();
    await stage.client.query(
      `DO $$ BEGIN FOR n IN 1..${rows} LOOP UPDATE item SET status = 'paid', updated_at = now() WHERE id = n; END LOOP; END $$`,
    );
    return { 'UPDATE us': ((performance.now() - began) * 1000) / rows };
  },
};

/** From the start of an INSERT to its consumer, and how long the INSERT itself takes. */
const latency = (rate: number, contestants: readonly string[]): Scenario => ({
  key: `d${rate}`,
  title: `latency at ${rate} changes/s, from the start of the INSERT to its consumer; and of the INSERT itself`,
  contestants,
  baseline: 'pg-logical-replication',
  chart: 'p50 ms',
  rounds: 3,
  point: { curve: 'latency', at: rate },
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume({ timed: true });
    const load = { clients: 16, statements: 1 };
    const warm = await stage.write({ ...load, duration: 500, rate: 100, firstId: 1 });
    if (delivers(stage)) await stage.delivered(warm.rows);
    const firstId = 1_000_000;
    const written = await stage.write({ ...load, duration: rate > 10 ? 3000 : 5000, rate, firstId });
    const writing = {
      'rows/s': written.rate,
      'INSERT p50 ms': quantile(written.latencies, 0.5),
      'INSERT p99 ms': quantile(written.latencies, 0.99),
    };
    if (!delivers(stage)) return writing;
    const complete = await completeness(stage, warm.rows + written.rows);
    const times = await stage.times(firstId, written.rows);
    const taken = ascending(times.flatMap((at, n) => (at > 0 ? [at - written.sentAt[n]!] : [])));
    return {
      'p50 ms': quantile(taken, 0.5),
      'p99 ms': quantile(taken, 0.99),
      'p999 ms': quantile(taken, 0.999),
      ...writing,
      ...complete,
    };
  },
});

/** A backlog that gathered while nobody listened. */
const drain = (
  rows: number,
  contestants: readonly string[],
  { rounds = 3, oneByOne = false, ...options }: { rounds?: number; oneByOne?: boolean } & RowOptions = {},
): Scenario => ({
  key: `e${rows}${oneByOne ? '-single' : ''}${keyOf(options)}`,
  title: `draining a backlog of ${rows} changes, of ${oneByOne ? 'as many statements' : `statements of ${Math.min(rows, 100_000)} rows`}${titleOf(options)}`,
  contestants,
  baseline: options.typical ? 'pg-logical-replication-full' : 'pg-logical-replication',
  chart: 'events/s',
  rounds,
  ...(!oneByOne && !options.typical && { point: { curve: 'backlog', at: rows } as const }),
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant, tableOf(options));
    await stage.install();
    const step = Math.min(rows, 100_000);
    if (oneByOne) await fillOneByOne(stage, rows);
    else for (let n = 0; n < rows; n += step) await fill(stage, step, n);
    await lab.admin.query('CHECKPOINT');
    await stage.consume();
    const { delivered, repeated, firstAt, lastAt, cpu, rss } = await stage.delivered(rows);
    const acknowledged = await stage.acknowledged();
    return {
      'events/s': (delivered / (Math.max(lastAt, acknowledged) - firstAt)) * 1000,
      'CPU us/event': (cpu / delivered) * 1000,
      'memory MB': rss / 1e6,
      undelivered: rows - delivered,
      repeated,
    };
  },
});

const processors = ['handlers-alone', 'ours', 'graphile-worker', 'pg-boss'];

/** Handlers that take a millisecond each, so many at once, over a backlog. */
const handlers = (concurrency: number, rows: number, contestants = processors): Scenario => ({
  key: `h${concurrency}`,
  title: `handlers of 1 ms, ${concurrency} at once, over a backlog of ${rows} changes`,
  contestants,
  baseline: 'handlers-alone',
  chart: 'events/s',
  rounds: 3,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await fill(stage, rows);
    await stage.client.query('VACUUM ANALYZE');
    await lab.admin.query('CHECKPOINT');
    await stage.consume({ timed: true, handlers: { concurrency, handlerTime: 1 } });
    const { delivered, repeated, firstAt, lastAt, cpu } = await stage.delivered(rows);
    const acknowledged = await stage.acknowledged();
    return {
      'events/s': (delivered / (lastAt - firstAt)) * 1000,
      'events/s, acknowledged': (delivered / (Math.max(lastAt, acknowledged) - firstAt)) * 1000,
      'CPU us/event': (cpu / delivered) * 1000,
      undelivered: rows - delivered,
      repeated,
    };
  },
});

/** From the beginning of a consumer, on a database that is prepared, to its first event of a backlog. */
const start: Scenario = {
  key: 'start',
  title: 'from the start of a consumer to the first event of a waiting backlog',
  contestants: ['ours', 'pg-logical-replication'],
  baseline: 'pg-logical-replication',
  chart: 'first event ms',
  rounds: 5,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await fill(stage, 1000);
    await stage.consume();
    const { delivered, repeated, firstAt, startedAt } = await stage.delivered(1000);
    return { 'first event ms': firstAt - startedAt, undelivered: 1000 - delivered, repeated };
  },
};

/** What a connection of the application keeps that has written to many tables. */
const connectionMemory: Scenario = {
  key: 'connection-memory',
  title: 'memory of a connection after an INSERT, an UPDATE and a DELETE in each of 500 tables',
  contestants: ['none', 'ours', 'ours-rows'],
  baseline: 'none',
  chart: 'MB',
  rounds: 1,
  async run(lab, contestant) {
    const tables = 500;
    await using stage = await lab.stage(contestant, undefined, { tables });
    await stage.install();
    await stage.consume();
    for (const table of tableNames(tables))
      await stage.client.query(
        `INSERT INTO ${table} VALUES (1); UPDATE ${table} SET note = 'x'; DELETE FROM ${table}`,
      );
    const { rows } = await stage.client.query<{ bytes: number }>(
      'SELECT sum(total_bytes)::float8 AS bytes FROM pg_backend_memory_contexts',
    );
    return { MB: rows[0]!.bytes / 1e6 };
  },
};

/** Many tables, written to in turn, or one of many partitions. */
const tables = (count: number, partitions = 0): Scenario => ({
  key: partitions > 0 ? `partitions${partitions}` : `tables${count}`,
  title: `rows written per second by 16 clients to ${partitions > 0 ? `a table of ${partitions} partitions` : `${count} table(s) in turn`}, while they are consumed`,
  contestants: ['none', 'ours'],
  baseline: 'none',
  chart: 'rows/s',
  rounds: 3,
  ...(partitions === 0 && { point: { curve: 'tables', at: count } as const }),
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant, undefined, { tables: count, partitions });
    await stage.install();
    await stage.consume();
    const { rows, rate } = await stage.write({
      clients: 16,
      statements: 1,
      duration: 2000,
      firstId: 1,
      tables: count,
    });
    return { 'rows/s': rate, ...(await completeness(stage, rows)) };
  },
});

/** What pg reads of the change log in keyset pages: no reader of a table can be faster. */
const readingLimit: Scenario = {
  key: 'e-limit',
  title: 'the limit of a drain: pg reading 1,000,000 changes of the change log in keyset pages of 2,000',
  contestants: ['ours-unread'],
  baseline: 'ours-unread',
  rounds: 1,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await fill(stage, 1_000_000);
    // Twenty rows of a hundred.
    const text = `SELECT seq, at, tbl, id, op, key, size FROM postgres_input.log_postgres_input_bench
      WHERE seq > $1 ORDER BY seq LIMIT 20`;
    await stage.client.query('SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off');
    const began = performance.now();
    let changes = 0;
    for (let after = '0'; ;) {
      const page = await stage.client.query({ name: 'page', text, values: [after], rowMode: 'array' });
      if (page.rows.length === 0) break;
      for (const row of page.rows as unknown[][]) changes += (row[6] as number | null) ?? 1;
      after = (page.rows.at(-1) as string[])[0]!;
    }
    return { 'changes/s': (changes / (performance.now() - began)) * 1000 };
  },
};

/** Updating a small column of rows that carry a large one. */
const wide: Scenario = {
  key: 'f',
  title: 'updating a small column of 200 rows with 300 kB of jsonb',
  contestants: few,
  baseline: 'none',
  chart: 'UPDATE ms',
  rounds: 3,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.client.query('ALTER TABLE item ADD document jsonb, ADD counter int');
    await stage.client.query(`INSERT INTO item SELECT n, '', to_jsonb(string_agg(md5(n || ' ' || i), '')), 0
      FROM generate_series(1, 200) n, generate_series(1, 9600) i GROUP BY n`);
    await stage.client.query('VACUUM ANALYZE item');
    await stage.install();
    await stage.consume();
    const times: number[] = [];
    for (let n = 0; n < 9; n++) {
      const began = performance.now();
      await stage.client.query('UPDATE item SET counter = counter + 1');
      times.push(performance.now() - began);
      await delay(100);
    }
    const taken = { 'UPDATE ms': quantile(ascending(times), 0.5) };
    if (!delivers(stage)) return taken;
    // Every row's id comes with every UPDATE: all but the first count as repeated.
    const { delivered, repeated } = await stage.delivered(
      9 * 200,
      ({ delivered, repeated }) => delivered + repeated,
    );
    return { ...taken, undelivered: 9 * 200 - delivered - repeated };
  },
};

/** What a node asks of the database while nothing happens. */
const idle: Scenario = {
  key: 'g',
  title: 'idle: queries per second and CPU of a node that consumes, and of one that stands by',
  contestants: everybody.filter((name) => name !== 'none'),
  baseline: 'original',
  rounds: 1,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume();
    await delay(1000);
    const active = await queriesPerSecond(stage);
    const standsBy = contestant === 'ours' || contestant === 'pg-pubsub';
    if (!standsBy) return active;
    await using standby = await Child.start('consumer');
    await standby.ask({ do: 'start', contestant, url: stage.url, timed: false, standby: true });
    await delay(1000);
    const both = await queriesPerSecond(stage);
    return { ...active, 'queries/s of a standby': both['queries/s'] - active['queries/s'] };
  },
};

async function queriesPerSecond(stage: Stage): Promise<{ 'queries/s': number; 'CPU ms/s': number }> {
  const calls = async () => {
    const { rows } = await stage.lab.admin.query<{ calls: number }>(
      `SELECT coalesce(sum(calls), 0)::float8 AS calls FROM pg_stat_statements
       WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1)`,
      [new URL(stage.url).pathname.slice(1)],
    );
    return rows[0]!.calls;
  };
  const seconds = 10;
  const before = { calls: await calls(), cpu: (await stage.report()).cpu };
  await delay(seconds * 1000);
  const after = { calls: await calls(), cpu: (await stage.report()).cpu };
  return {
    'queries/s': (after.calls - before.calls) / seconds,
    'CPU ms/s': (after.cpu - before.cpu) / seconds,
  };
}

/** Load that swings between nothing and all that goes. */
const swing: Scenario = {
  key: 'swing',
  title: 'load that swings between nothing and 16 writers at full speed, every second',
  contestants: ['original', 'ours'],
  baseline: 'original',
  rounds: 3,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume({ timed: true });
    const swings = { times: 6, pause: 1000 };
    const written = await stage.write({ clients: 16, statements: 1, duration: 1000, swings, firstId: 1 });
    const complete = await completeness(stage, written.rows);
    const times = await stage.times(1, written.rows);
    const late = ascending(times.flatMap((at, n) => (at > 0 ? [at - written.doneAt[n]!] : [])));
    return {
      'rows/s': written.rate,
      'after commit p50 ms': quantile(late, 0.5),
      'after commit p99 ms': quantile(late, 0.99),
      'worst ms': late.at(-1)!,
      ...complete,
    };
  },
};

/** Churn while an old snapshot keeps vacuum from removing anything. */
const bloat: Scenario = {
  key: 'bloat',
  title: '20 s of 2,000 changes/s while an old snapshot is held open',
  contestants: ['ours'],
  baseline: 'ours',
  rounds: 1,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume({ timed: true });
    await stage.client.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM item');
    const load = { clients: 16, statements: 1, rate: 2000, duration: 20_000 };
    const written = await stage.write({ ...load, firstId: 1 });
    const complete = await completeness(stage, written.rows);
    const times = await stage.times(1, written.rows);
    const taken = times.map((at, n) => at - written.sentAt[n]!);
    const fifth = Math.floor(taken.length / 5);
    const { rows } = await stage.client.query<{ size: number }>(
      `SELECT pg_total_relation_size('postgres_input.log_postgres_input_bench')::float8 AS size`,
    );
    await stage.client.query('COMMIT');
    return {
      'rows/s': written.rate,
      'first fifth p50 ms': quantile(ascending(taken.slice(0, fifth)), 0.5),
      'last fifth p50 ms': quantile(ascending(taken.slice(-fifth)), 0.5),
      'first fifth p99 ms': quantile(ascending(taken.slice(0, fifth)), 0.99),
      'last fifth p99 ms': quantile(ascending(taken.slice(-fifth)), 0.99),
      'log MB': rows[0]!.size / 1e6,
      ...complete,
    };
  },
};

/** What it costs to check what a notification says. */
const validation: Scenario = {
  key: 'validation',
  title: 'reading a payload: signature, JSON and zod, against JSON.parse alone',
  contestants: ['ours'],
  baseline: 'ours',
  rounds: 3,
  async run(_lab: Lab) {
    const { createHmac } = await import('node:crypto');
    const secret = Buffer.alloc(32, 1);
    const change = {
      seq: '1',
      xid: '757',
      at: '2026-01-31T12:00:00.123456',
      tbl: 'item',
      id: '1',
      op: 'INSERT',
    };
    const signature = { secret, database: 'bench' };
    const body = `{"database":"bench"},${JSON.stringify({ ...change, key: 'id', version: 4 })}`;
    const payload = `[{"mac":"${createHmac('sha256', secret).update(body).digest('hex')}"},${body}]`;
    if (readPayload(payload, signature).kind !== 'changes') throw new Error('the payload is not understood');
    const time = (task: () => unknown) => {
      const began = performance.now();
      for (let n = 0; n < 200_000; n++) task();
      return ((performance.now() - began) * 1000) / 200_000;
    };
    return {
      'readPayload us': time(() => readPayload(payload, signature)),
      'JSON.parse us': time(() => JSON.parse(payload)),
    };
  },
};

export const scenarios: readonly Scenario[] = [
  throughput(1, [...everybody, 'ours-unread']),
  throughput(16, [...everybody, 'ours-unread']),
  throughput(4, few),
  throughput(64, few),
  throughput(256, few),
  throughput(1, few, { statements: 10 }),
  throughput(16, few, { statements: 10 }),
  throughput(16, ['none', 'ours'], { rows: 100_000 }),
  throughput(16, ['none', 'ours'], { rows: 1_000_000 }),
  bulk('INSERT', 100_000),
  bulk('UPDATE', 100_000),
  bulk('INSERT', 1_000_000, 1),
  bulk('UPDATE', 1_000_000, 1),
  latency(10, few),
  latency(100, everybody),
  latency(1000, few),
  latency(2000, few),
  latency(5000, few),
  latency(10_000, few),
  drain(10_000, durable),
  drain(100_000, ['ours', 'pg-logical-replication']),
  drain(100_000, ['ours', 'pg-logical-replication'], { oneByOne: true }),
  drain(1_000_000, ['ours', 'pg-logical-replication'], { rounds: 1 }),
  drain(10_000_000, ['ours', 'pg-logical-replication'], { rounds: 1 }),
  start,
  connectionMemory,
  ...[1, 10, 100].map((count) => tables(count)),
  tables(1, 1000),
  throughput(16, withRows, { typical: true }),
  singleUpdates,
  bulk('INSERT', 100_000, 3, { typical: true }),
  drain(1_000_000, ['ours', 'ours-rows', 'pg-logical-replication-full'], { rounds: 1, typical: true }),
  handlers(1, 10_000),
  handlers(16, 30_000),
  // graphile-worker would take minutes.
  handlers(256, 120_000, ['handlers-alone', 'ours', 'pg-boss']),
  existingRows(100_000, TYPICAL, true),
  existingRows(1_000_000, TYPICAL),
  existingRows(10_000_000, TYPICAL, true),
  writersMeanwhile(1000, TYPICAL),
  writersMeanwhile(null, TYPICAL),
  readingLimit,
  wide,
  idle,
  swing,
  bloat,
  validation,
];

/** For its exit code alone: everybody's changes arrive. */
export const quick: readonly Scenario[] = [
  { ...throughput(16, ['original', 'ours', 'pg-logical-replication']), rounds: 1 },
  { ...bulk('UPDATE', 50_000), contestants: ['ours'], rounds: 1 },
  { ...drain(100_000, ['ours']), rounds: 1 },
  { ...swing, contestants: ['ours'], rounds: 1 },
];
