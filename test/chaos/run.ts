/** One run: a database, writers, nodes and faults, all drawn from a seed; then the verdict. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { LeaseSettings } from '../../src/index.ts';
import type { Server } from '../support/server.ts';
import { Backfills } from './backfills.ts';
import { CLOCK, SET_CLOCK } from './clock.ts';
import { type ChaosNode, startNode } from './cluster.ts';
import { type Weights, plan, wreakHavoc } from './faults.ts';
import { Model } from './model.ts';
import { type Verdict, judge } from './oracle.ts';
import { CONSUMERS, type Calm, type ConsumerKind } from './protocol.ts';
import { Random } from './random.ts';
import { type Rewind, ServerFaults } from './server-faults.ts';
import { STALL, watchForStalls } from './stalls.ts';
import { type Row, SCHEMAS, randomTables } from './tables.ts';
import {
  type Claim,
  LOG_TABLE,
  MARKS,
  READ_ACKNOWLEDGEMENTS,
  READ_BOOKINGS,
  READ_CLAIMS,
  READ_PARKED,
  WITNESSES,
} from './witness.ts';
import { Writer, insert } from './writer.ts';

export interface RunOptions {
  readonly server: Server;
  readonly seed: number;
  /** For how long there are writers and faults. */
  readonly seconds: number;
  readonly lease: LeaseSettings;
  readonly nodes?: number;
  readonly writers?: number;
  /** How often each kind of fault happens, where it differs from the default. */
  readonly weights?: Partial<Weights>;
  /** The kinds of consumers that there are. Default: all, and most often those of `handle()`. */
  readonly consumers?: readonly ConsumerKind[];
  /** Told of every step. */
  readonly tell?: (line: string) => void;
}

export interface Run extends Verdict {
  readonly seed: number;
  /** Milliseconds from what befell the holder of the lease to the next claim, by what it was. */
  readonly takeovers: Map<string, number[]>;
}

/** How many changes may wait before the writers hold back. */
const MAX_BACKLOG = 4000;
/** How long the nodes may go without any progress once all is well again, in milliseconds. */
const PATIENCE = 30_000;

export async function run(options: RunOptions): Promise<Run> {
  const {
    server,
    seed,
    seconds,
    lease,
    nodes: size = 3,
    writers: writerCount = 5,
    tell = () => {},
  } = options;
  const random = new Random(seed);
  const database = `chaos_${seed}_${Date.now()}`;
  const folder = await mkdtemp(join(tmpdir(), 'dapper-chaos-'));
  const nodes: ChaosNode[] = [];
  const alive = () => nodes.filter(({ exit }) => exit === null);
  const everybody = (kind: string) => {
    const ends = alive().map((node) => node.suffer(kind));
    return () => ends.forEach((end) => end());
  };

  await administer(server, `CREATE DATABASE ${database}`);
  const pool = new pg.Pool({ connectionString: server.url(database), max: 3, connectionTimeoutMillis: 5000 });
  pool.on('error', () => {});
  const query = async (sql: string, values: unknown[] = []) => (await pool.query(sql, values)).rows;
  const stalled = (from: number, to: number) => {
    for (const node of alive()) node.mishaps.push({ kind: 'stall', from, to });
  };
  const stopWatching = watchForStalls(stalled);
  let backfills: Backfills | null = null;
  try {
    const model = new Model(randomTables(random.fork()));
    await query([...SCHEMAS.slice(1).map((schema) => `CREATE SCHEMA "${schema}"`), MARKS].join(';'));
    await query(model.tables.flatMap(({ ddl }) => ddl).join(';'));
    await query(CLOCK);
    const { goesBack, weights } = plan(random.fork(), options.weights);

    const taste = random.fork();
    let started = 0;
    let calm = false;
    const addNode = async () => {
      const node = await startNode(`node-${++started}`, server, database, folder, {
        schemas: SCHEMAS,
        lease,
        consumer: taste.pick(options.consumers ?? ['auto', ...CONSUMERS]),
        calm,
        work: taste.pick([0, 1, 4]),
        reconnect: { minDelay: 20, maxDelay: 500 },
      });
      nodes.push(node);
      return node;
    };
    const first = await addNode();
    await until(
      () => first.token !== null,
      30_000,
      () => `the first node is not active: ${first.process.output()}`,
    );
    await query(WITNESSES);
    while (nodes.length < size) await addNode();
    await until(
      () => nodes.every(({ hasJoined }) => hasJoined),
      30_000,
      () => 'nodes do not join',
    );

    // The application's tempo changes from quiet, when the reader sleeps, to more than it can take.
    const ending = new AbortController();
    let pauses: readonly [number, number] = [5, 50];
    let backlog = 0;
    const tempo = random.fork();
    const conduct = async () => {
      while (!ending.signal.aborted) {
        pauses = tempo.pick([
          [100, 600],
          [100, 600],
          [10, 100],
          [10, 100],
          [0, 10],
        ] as const);
        await delay(tempo.int(300, 2000), undefined, { signal: ending.signal }).catch(() => {});
      }
    };
    const watchBacklog = async () => {
      while (!ending.signal.aborted) {
        const sent = Date.now();
        const rows = await query(`SELECT count(*)::int AS n FROM ${LOG_TABLE}`).catch(() => null);
        if (rows) backlog = rows[0].n;
        if (rows && Date.now() - sent > STALL) stalled(sent, Date.now());
        await delay(50);
      }
    };
    const writers = Array.from({ length: writerCount }, (_, n) => {
      const own = random.fork();
      const pause = () => (backlog > MAX_BACKLOG ? 1000 : own.int(...pauses));
      return new Writer({
        url: server.url(database),
        model,
        random: own,
        name: `${database}-${n}`,
        commitsLazily: goesBack,
        pause,
      });
    });
    const writing = writers.map((writer) => writer.run());
    const asking = new Backfills({ url: server.url(database), model, random: random.fork(), query, tell });
    backfills = asking;
    const background = [conduct(), watchBacklog(), asking.run(ending.signal)];
    setTimeout(() => ending.abort(), seconds * 1000);

    const ends = random.fork();
    const endPrepared = async () => {
      const found = await query('SELECT gid FROM pg_prepared_xacts WHERE database = current_database()');
      for (const { gid } of found) {
        await query(`${ends.chance(0.5) ? 'COMMIT' : 'ROLLBACK'} PREPARED '${gid}'`).catch(() => {});
      }
    };
    const serverFaults = new ServerFaults({
      server,
      commitsLazily: goesBack,
      everybody,
      rewound: () => model.rewound(),
      settle: endPrepared,
    });
    const clockSet: number[] = [];
    await wreakHavoc(
      {
        nodes: alive,
        join: addNode,
        size,
        query,
        duration: lease.duration,
        server: serverFaults,
        async setClock(ahead) {
          tell(`the clock is ahead by ${ahead} ms`);
          await query(SET_CLOCK, [ahead]);
          clockSet.push(Date.now());
        },
      },
      weights,
      random.fork(),
      ending.signal,
      tell,
    );

    if (serverFaults.failure) throw new Error('the server did not start', { cause: serverFaults.failure });
    tell('healing');
    calm = true;
    for (const node of alive()) if (!node.isCalm) node.process.send('calm' satisfies Calm);
    for (const writer of writers) writer.stop();
    await Promise.all([...writing, ...background]);
    await until(
      () => alive().every(({ isCalm }) => isCalm),
      30_000,
      () => 'nodes do not calm down',
    );
    while (alive().length < 2) await addNode();
    await endPrepared();
    const leftOver = await drain(query, nodes);
    tell('drained');
    const stuck = await asking.finish(PATIENCE);
    tell('backfills are over');
    if (leftOver === 0 && stuck.length === 0)
      stuck.push(...(await trickle(random.fork(), server.url(database), model, alive, query)));
    tell('trickled');
    for (const node of alive()) {
      if (!node.hasJoined) node.suffer('kill');
      node.process.signal(node.hasJoined ? 'SIGTERM' : 'SIGKILL');
    }
    await Promise.race([
      Promise.all(nodes.map(({ process }) => process.exited)),
      delay(20_000, undefined, { ref: false }),
    ]);

    const claims: Claim[] = await query(READ_CLAIMS);
    const verdict = judge({
      transactions: model.transactions,
      marks: new Set((await query('SELECT name FROM oracle.mark')).map(({ name }) => name)),
      nodes: await Promise.all(
        nodes.map(async (node) => {
          const { name, mishaps, exit } = node;
          if (exit && exit.code !== 0 && exit.signal === null) tell(`${name}: ${node.process.output()}`);
          const { consumer } = node.settings;
          return {
            name,
            consumer,
            mishaps,
            reports: await node.journal(),
            exit: exit ?? { code: null, signal: null },
          };
        }),
      ),
      claims,
      acknowledgements: await query(READ_ACKNOWLEDGEMENTS),
      bookings: await query(READ_BOOKINGS),
      parked: await query(READ_PARKED),
      backfills: asking.asked,
      tables: await Promise.all(
        model.tables.map(async (table) => ({ table, rows: await query(`SELECT r, g, v FROM ${table.sql}`) })),
      ),
      rewinds: serverFaults.rewinds,
      clockSet,
      leftOver,
      stuck,
      aftermath: lease.duration,
      harmfulStall: lease.renewInterval,
      trigger: 'chaos_input',
    });
    return { seed, ...verdict, takeovers: takeovers(claims, nodes, serverFaults.rewinds) };
  } finally {
    stopWatching();
    await backfills?.close();
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    await pool.end();
    await administer(server, `DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
    await rm(folder, { recursive: true });
  }
}

/** How often single changes are written while all is quiet. */
const TRICKLES = 15;
/** How long such a change may take, in milliseconds. */
const PROMPTLY = 10_000;

/**
 * One change at a time, just when the reader falls asleep or has done so, over a network that hesitates, and while
 * another transaction is open. Each must be handed out without another one's help.
 */
async function trickle(
  random: Random,
  url: string,
  model: Model,
  alive: () => ChaosNode[],
  query: (sql: string) => Promise<{ n: number }[]>,
): Promise<string[]> {
  const stuck: string[] = [];
  const table = model.tables.find(({ canChangeKey, isUpserted }) => canChangeKey && !isUpserted)!;
  const write = async (client: pg.Client, name: string, count: number) => {
    const transaction = model.begin(name);
    const { sql, changes } = insert(
      table,
      Array.from({ length: count }, () => model.newRow(table)),
    );
    await client.query('BEGIN');
    for (const row of (await client.query<Row>(sql!)).rows) transaction.changes.push(...changes(row));
    await client.query(`INSERT INTO oracle.mark VALUES ('${name}')`);
    return transaction;
  };
  const one = new pg.Client({ connectionString: url });
  const other = new pg.Client({ connectionString: url });
  await Promise.all([one.connect(), other.connect()]);
  for (let n = 0; n < TRICKLES && stuck.length === 0; n++) {
    const open = random.chance(0.5) ? await write(other, `trickle-${n}-open`, 1) : null;
    // More than a notification holds: it wakes the reader, who then falls asleep again.
    for (const count of [60, 1, 1, 1]) {
      const transaction = await write(one, `trickle-${n}-${count}-${random.next()}`, count);
      await one.query('COMMIT');
      model.ended(transaction, 'committed');
      const { proxy } = alive().find(({ token }) => token !== null) ?? alive()[0]!;
      proxy.freeze('to-client', random.pick(proxy.connections)?.index);
      await delay(count > 1 ? random.int(20, 150) : random.int(0, 20));
      proxy.thaw();
    }
    const isEmpty = async () => (await query(`SELECT count(*)::int AS n FROM ${LOG_TABLE}`))[0]!.n === 0;
    if (!(await comes(isEmpty))) stuck.push(`round ${n}, ${open ? 'while a transaction was open' : 'alone'}`);
    if (open) {
      await other.query('COMMIT');
      model.ended(open, 'committed');
      if (!(await comes(isEmpty))) stuck.push(`round ${n}, what was open`);
    }
  }
  await Promise.all([one.end(), other.end()]);
  return stuck;
}

async function comes(condition: () => Promise<boolean>): Promise<boolean> {
  for (const deadline = Date.now() + PROMPTLY; Date.now() < deadline; await delay(10)) {
    if (await condition()) return true;
  }
  return false;
}

/** Waits until the log is empty. Returns how much is left when nothing moves any more. */
async function drain(query: (sql: string) => Promise<{ n: number }[]>, nodes: ChaosNode[]): Promise<number> {
  let left = Infinity;
  let since = Date.now();
  for (;;) {
    const [row] = await query(`SELECT count(*)::int AS n FROM ${LOG_TABLE}`);
    if (row!.n === 0) return 0;
    if (row!.n < left) {
      left = row!.n;
      since = Date.now();
    } else if (Date.now() - since > PATIENCE || nodes.every(({ exit }) => exit)) {
      return left;
    }
    await delay(20);
  }
}

function takeovers(
  claims: readonly Claim[],
  nodes: readonly ChaosNode[],
  rewinds: readonly Rewind[],
): Map<string, number[]> {
  const times = new Map<string, number[]>();
  claims.forEach((claim, n) => {
    const next = claims[n + 1];
    const mishaps = nodes.find(({ name }) => name === claim.node)?.mishaps ?? [];
    const cause = mishaps.findLast(
      ({ kind, from }) => kind !== 'stall' && from >= claim.at && from <= (next?.at ?? 0),
    );
    // Claims in between are lost with what the server has lost.
    if (!next || !cause || rewinds.some(({ from }) => from >= claim.at && from <= next.at)) return;
    times.set(cause.kind, [...(times.get(cause.kind) ?? []), next.at - cause.from]);
  });
  return times;
}

async function until(condition: () => boolean, timeout: number, problem: () => string): Promise<void> {
  const deadline = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(problem());
    await delay(10);
  }
}

async function administer(server: Server, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url() });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
