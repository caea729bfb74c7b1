/** Where it is measured: one server, the same settings for all, and for each measurement a database of its own. */
import pg from 'pg';
import { type Server, startServer } from '../test/support/server.ts';
import { Child } from './child.ts';
import { clock } from './clock.ts';
import type { ConsumeReport } from './consumer.ts';
import type { Contestant, Handlers } from './contestant.ts';
import { contestants } from './contestants/index.ts';
import { tableNames } from './tables.ts';
import type { WriteJob, WriteResult } from './writer.ts';

/** Durable commits, as in production; logical, because the slots need it; checkpoints and caches out of the way. */
const settings = {
  fsync: 'on',
  wal_level: 'logical',
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  max_replication_slots: '20',
  max_wal_senders: '20',
  max_connections: '400',
  shared_preload_libraries: 'pg_stat_statements',
};

export class Lab implements AsyncDisposable {
  readonly server: Server;
  readonly admin: pg.Client;
  readonly writer: Child;
  #databases = 0;

  private constructor(server: Server, admin: pg.Client, writer: Child) {
    this.server = server;
    this.admin = admin;
    this.writer = writer;
  }

  static async open(): Promise<Lab> {
    const server = await startServer({ settings });
    const admin = new pg.Client({ connectionString: server.url() });
    await admin.connect();
    await admin.query('CREATE EXTENSION pg_stat_statements');
    return new Lab(server, admin, await Child.start('writer'));
  }

  async stage(
    contestant: string,
    columns = 'note text',
    { tables = 1, partitions = 0 }: { tables?: number; partitions?: number } = {},
  ): Promise<Stage> {
    const name = `bench_${++this.#databases}`;
    await this.admin.query(`CREATE DATABASE ${name}`);
    const url = this.server.url(name);
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    await client.connect();
    for (const table of tableNames(tables))
      await client.query(
        `CREATE TABLE ${table} (id bigint PRIMARY KEY, ${columns})${partitions > 0 ? ' PARTITION BY HASH (id)' : ''}`,
      );
    for (let n = 0; n < partitions; n++)
      await client.query(
        `CREATE TABLE part_${n} PARTITION OF item FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${n})`,
      );
    return new Stage(this, contestant, url, client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer[Symbol.asyncDispose]();
    await this.admin.end();
    await this.server[Symbol.asyncDispose]();
  }
}

/** Milliseconds after which nothing more is expected to come. */
const PATIENCE = 10_000;

/** A database with a table `item`, and a contestant. */
export class Stage implements AsyncDisposable {
  readonly lab: Lab;
  readonly name: string;
  readonly contestant: Contestant;
  readonly url: string;
  readonly client: pg.Client;
  #consumer: Child | undefined;

  constructor(lab: Lab, name: string, url: string, client: pg.Client) {
    this.lab = lab;
    this.name = name;
    this.contestant = contestants[name]!;
    this.url = url;
    this.client = client;
  }

  async install(): Promise<void> {
    await this.contestant.install(this.url);
    await this.lab.admin.query('CHECKPOINT');
  }

  async consume({ timed = false, handlers }: { timed?: boolean; handlers?: Handlers } = {}): Promise<void> {
    const profile = process.env['BENCH_PROFILE'];
    this.#consumer = await Child.start('consumer', profile ? ['--cpu-prof', '--cpu-prof-dir', profile] : []);
    await this.#consumer.ask({
      do: 'start',
      contestant: this.name,
      url: this.url,
      timed,
      ...(handlers && { handlers }),
    });
  }

  async stopConsuming(): Promise<void> {
    await this.#consumer?.ask({ do: 'stop' });
    await this.#consumer?.[Symbol.asyncDispose]();
    this.#consumer = undefined;
  }

  write(job: Omit<WriteJob, 'url'>): Promise<WriteResult> {
    return this.lab.writer.ask({ url: this.url, ...job } satisfies WriteJob);
  }

  report(): Promise<ConsumeReport> {
    return this.#consumer!.ask({ do: 'report' });
  }

  times(firstId: number, rows: number): Promise<number[]> {
    return this.#consumer!.ask({ do: 'times', firstId, rows });
  }

  /** When nothing was left to acknowledge; at once for those who cannot tell. */
  async acknowledged(): Promise<number> {
    if (!this.contestant.isAcknowledged) return 0;
    while (!(await this.contestant.isAcknowledged(this.url))) await new Promise(setImmediate);
    return clock();
  }

  /** Waits until that many changes are delivered; gives up when none has come for ten seconds. */
  async delivered(
    expected: number,
    count: (report: ConsumeReport) => number = ({ delivered }) => delivered,
  ): Promise<ConsumeReport> {
    let last = await this.report();
    let since = performance.now();
    while (count(last) < expected && performance.now() - since < PATIENCE) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const report = await this.report();
      if (count(report) !== count(last)) since = performance.now();
      last = report;
    }
    return last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopConsuming();
    await this.contestant.cleanUp?.(this.url);
    await this.client.end();
    await this.lab.admin.query(`DROP DATABASE ${new URL(this.url).pathname.slice(1)} WITH (FORCE)`);
  }
}
