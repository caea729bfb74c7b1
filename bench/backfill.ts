/** Rows that a table holds already: how fast they come as events, and what the application notices meanwhile. */
import type { Stage } from './lab.ts';
import { type Metrics, type Scenario, quantile } from './scenario.ts';

const STEP = 100_000;

async function fill(stage: Stage, rows: number, from: number): Promise<void> {
  for (let n = 0; n < rows; n += STEP) {
    await stage.client.query(
      `INSERT INTO item (id, note) SELECT n, 'row ' || n FROM generate_series(${from + n + 1}, ${from + Math.min(n + STEP, rows)}) n`,
    );
  }
  await stage.client.query('VACUUM ANALYZE item');
}

/** All rows of a table, beside those who read the same rows by hand, and make no events of them. */
export const existingRows = (rows: number, columns: string, isOptional = false): Scenario => ({
  key: `backfill-${rows}`,
  title: `${rows} rows that a table of 12 columns holds already`,
  contestants: ['ours-backfill', 'pg-pages', 'pg-copy'],
  baseline: 'pg-pages',
  chart: 'rows/s',
  rounds: 3,
  isOptional,
  async run(lab, contestant): Promise<Metrics> {
    await using stage = await lab.stage(contestant, columns);
    await fill(stage, rows, 0);
    await stage.install();
    await stage.consume();
    const early = await stage.delivered(Math.ceil(rows / 10));
    const { delivered, repeated, firstAt, lastAt, cpu, rss } = await stage.delivered(rows);
    return {
      'rows/s': (delivered / (lastAt - firstAt)) * 1000,
      'CPU us/row': (cpu / delivered) * 1000,
      'memory MB': rss / 1e6,
      'of which since the first tenth': Math.max(0, rss - early.rss) / 1e6,
      undelivered: rows - delivered,
      repeated,
    };
  },
});

/** Ids of the rows that were there: above those that the application writes. */
const FROM = 10_000_000;

/** Writers, while all rows of a large table are read, and while nothing is read. `rate`: null for as fast as they go. */
export const writersMeanwhile = (rate: number | null, columns: string): Scenario => ({
  key: `backfill-writers${rate === null ? '' : `-${rate}`}`,
  title: `16 writers ${rate === null ? 'at full speed' : `at ${rate} rows/s`}, while 1,000,000 rows are read`,
  contestants: ['ours', 'ours-backfill'],
  baseline: 'ours',
  chart: 'rows/s',
  rounds: 3,
  async run(lab, contestant): Promise<Metrics> {
    await using stage = await lab.stage(contestant, columns);
    const rows = 1_000_000;
    await fill(stage, rows, FROM);
    await stage.install();
    await stage.consume();
    const load = { clients: 16, statements: 1, duration: 5000, firstId: 1, ...(rate !== null && { rate }) };
    const written = await stage.write(load);
    const { delivered } = await stage.report();
    const reads =
      contestant === 'ours' ? {} : { 'rows read meanwhile': Math.max(0, delivered - written.rows) };
    return {
      'rows/s': written.rate,
      'INSERT p50 ms': quantile(written.latencies, 0.5),
      'INSERT p99 ms': quantile(written.latencies, 0.99),
      ...reads,
    };
  },
});
