import type { Stage } from './lab.ts';
import { type Metrics, type Scenario, ascending, quantile } from './scenario.ts';

const everybody = ['none', 'original', 'ours', 'ours-unread'];

const isDelivering = (stage: Stage): boolean => stage.contestant.by !== 'nothing';

async function undelivered(stage: Stage, rows: number): Promise<Metrics> {
  if (!isDelivering(stage)) return {};
  const { delivered, repeated } = await stage.delivered(rows);
  if (delivered < rows) {
    const left = await stage.client
      .query(
        'select l.*, pg_current_snapshot() s from postgres_input.log_postgres_input_bench l order by seq limit 5',
      )
      .catch(() => null);
    const times = await stage.missing(rows);
    console.error(
      'UNDELIVERED',
      rows - delivered,
      times.slice(0, 20),
      left?.rows,
      (await stage.client.query('select count(*), min(id), max(id) from item')).rows,
    );
  }
  return { undelivered: rows - delivered, repeated };
}

/** Writers as fast as they go, with a live consumer. */
const throughput = (clients: number, statements: number, duration = 2500, rounds = 5): Scenario => ({
  key: `a${clients}${statements > 1 ? `x${statements}` : ''}`,
  title: `write throughput, ${clients} client${clients > 1 ? 's' : ''}, ${statements} row${statements > 1 ? 's' : ''} per transaction`,
  contestants: everybody,
  baseline: 'none',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume();
    const { rows, elapsed } = await stage.write({ clients, statements, duration, firstId: 1 });
    const live = isDelivering(stage) ? (await stage.report()).delivered / rows : 1;
    return { 'rows/s': (rows / elapsed) * 1000, 'delivered live': live, ...(await undelivered(stage, rows)) };
  },
});

/** One statement that changes many rows. */
const bulk = (rows: number, rounds = 3): Scenario => ({
  key: `b${rows}`,
  title: `one statement of ${rows} rows`,
  contestants: everybody,
  baseline: 'none',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume();
    const began = performance.now();
    await stage.client.query(
      `INSERT INTO item (id, note) SELECT n, 'row ' || n FROM generate_series(1, ${rows}) n`,
    );
    const insert = performance.now() - began;
    const lost = await undelivered(stage, rows);
    const all = performance.now() - began;
    if (!isDelivering(stage)) return { 'insert ms': insert, 'all delivered ms': insert };
    return { 'insert ms': insert, 'all delivered ms': all, ...lost };
  },
});

const bulkUpdate = (rows: number, rounds = 3): Scenario => ({
  key: `bu${rows}`,
  title: `one UPDATE of ${rows} rows`,
  contestants: everybody,
  baseline: 'none',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.client.query(
      `INSERT INTO item (id, note) SELECT n, 'row ' || n FROM generate_series(1, ${rows}) n`,
    );
    await stage.client.query('VACUUM ANALYZE item');
    await stage.install();
    await stage.consume();
    const began = performance.now();
    await stage.client.query(`UPDATE item SET note = 'changed'`);
    const update = performance.now() - began;
    return { 'update ms': update, ...(await undelivered(stage, rows)) };
  },
});

/** From the start of an INSERT to its consumer. */
const latency = (rate: number, duration = 4000, rounds = 3): Scenario => ({
  key: `d${rate}`,
  title: `latency from the start of the INSERT to the consumer, at ${rate} changes/s`,
  contestants: everybody.filter((name) => name !== 'none'),
  baseline: 'original',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    await stage.consume({ timed: true });
    await stage.write({ clients: 16, statements: 1, duration: 300, rate: Math.min(rate, 100), firstId: 1 });
    const firstId = 1_000_000;
    const before = (await stage.delivered(Infinity, 300)).delivered;
    const written = await stage.write({ clients: 16, statements: 1, duration, rate, firstId });
    const lost = await undelivered(stage, before + written.rows);
    const times = await stage.times(firstId, written.rows);
    const fromStart = ascending(times.flatMap((at, n) => (at > 0 ? [at - written.sentAt[n]!] : [])));
    const fromCommit = ascending(times.flatMap((at, n) => (at > 0 ? [at - written.doneAt[n]!] : [])));
    return {
      'rows/s': (written.rows / written.elapsed) * 1000,
      'p50 ms': quantile(fromStart, 0.5),
      'p99 ms': quantile(fromStart, 0.99),
      'p999 ms': quantile(fromStart, 0.999),
      'after commit p50 ms': quantile(fromCommit, 0.5),
      'after commit p99 ms': quantile(fromCommit, 0.99),
      'write p50 ms': quantile(written.latencies, 0.5),
      'write p99 ms': quantile(written.latencies, 0.99),
      ...lost,
    };
  },
});

/** A backlog that gathered while nobody listened. */
const drain = (rows: number, rounds = 3): Scenario => ({
  key: `e${rows}`,
  title: `draining a backlog of ${rows} changes`,
  contestants: ['ours', 'pg-logical-replication'],
  baseline: 'pg-logical-replication',
  rounds,
  async run(lab, contestant) {
    await using stage = await lab.stage(contestant);
    await stage.install();
    for (let n = 0; n < 10; n++) {
      await stage.client.query(
        `INSERT INTO item (id) SELECT generate_series(${(n * rows) / 10 + 1}, ${((n + 1) * rows) / 10})`,
      );
    }
    await lab.admin.query('CHECKPOINT');
    const execArgv = process.env['BENCH_PROF']
      ? ['--cpu-prof', '--cpu-prof-dir', process.env['BENCH_PROF']]
      : [];
    await stage.consume({ execArgv });
    const { delivered, repeated, firstAt, lastAt, cpu, rss } = await stage.delivered(rows);
    while (!((await stage.contestant.isAcknowledged?.(stage.url)) ?? true)) await new Promise(setImmediate);
    return {
      'events/s': (delivered / (lastAt - firstAt)) * 1000,
      'cpu us/event': (cpu / delivered) * 1000,
      'rss MB': rss / 1e6,
      undelivered: rows - delivered,
      repeated,
    };
  },
});

/** What pg reads of the same table in keyset pages: no reader of a table can be faster. */
export const scenarios: readonly Scenario[] = [
  throughput(1, 1),
  throughput(16, 1),
  bulk(100_000),
  bulk(1_000_000),
  bulkUpdate(100_000),
  bulkUpdate(1_000_000),
  latency(10),
  latency(100),
  latency(1000),
  latency(5000),
  drain(1_000_000),
];
