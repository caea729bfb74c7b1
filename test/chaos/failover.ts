/**
 * How long events stay away when the active node goes: from the last event that it handed out to the first one of its
 * successor, with default options, while an application writes all the time.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { type ChaosNode, type Settings, startNode } from './cluster.ts';

/** What happens to the active node, and how it is mended. */
const faults: Record<string, (node: ChaosNode) => () => void> = {
  'graceful (close)': ({ process }) => (process.signal('SIGTERM'), () => {}),
  SIGKILL: ({ process }) => (process.signal('SIGKILL'), () => {}),
  'frozen (SIGSTOP)': ({ process }) => (process.signal('SIGSTOP'), () => process.signal('SIGCONT')),
  'black-holed': ({ proxy }) => (proxy.freeze(), () => proxy.thaw()),
  'silent to the server': ({ proxy }) => (proxy.freeze('to-server'), () => proxy.thaw()),
  'silent from the server': ({ proxy }) => (proxy.freeze('to-client'), () => proxy.thaw()),
  'connections reset': ({ proxy }) => (proxy.cut(), () => {}),
};

/** Milliseconds, by kind of fault. `rate`: writes per second. `wakeup`: the option of the nodes. */
export async function measureFailovers(
  rounds: number,
  rate: number,
  wakeup: 'notify' | 'poll',
  tell: (line: string) => void,
): Promise<Map<string, number[]>> {
  await using server = await startServer();
  const folder = await mkdtemp(join(tmpdir(), 'dapper-failover-'));
  const nodes: ChaosNode[] = [];
  const pool = new pg.Pool({ connectionString: server.url(), max: 4 });
  const writing = new AbortController();
  const settings: Settings = {
    schemas: ['public'],
    lease: {},
    consumer: 'auto',
    calm: false,
    work: 0,
    reconnect: { minDelay: 100, maxDelay: 10_000 },
    wakeup,
  };
  try {
    await pool.query('CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz)');
    const writer = write(pool, rate, writing.signal);
    const causes = new Map<string, string>();
    for (let round = 0; round < rounds; round++) {
      for (const [kind, befall] of Object.entries(faults)) {
        while (nodes.filter(({ exit }) => !exit).length < 2) {
          nodes.push(await startNode(`node-${nodes.length + 1}`, server, 'postgres', folder, settings));
        }
        const active = await settled(nodes);
        // Any moment between two renewals of the lease.
        await delay(1000 + Math.random() * 1000);
        causes.set(active.token!, kind);
        const mend = befall(active);
        const token = await succeeded(nodes, BigInt(active.token!));
        await delay(200);
        mend();
        if (kind.startsWith('SIGKILL') || kind.startsWith('graceful')) await active.process.exited;
        tell(`round ${round + 1}: ${kind}, now token ${token}`);
      }
    }
    writing.abort();
    await writer;
    return await gaps(nodes, causes);
  } finally {
    writing.abort();
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    await pool.end();
    await rm(folder, { recursive: true });
  }
}

async function write(pool: pg.Pool, rate: number, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  for (let n = 1; !signal.aborted; n++) {
    void pool.query('INSERT INTO t (at) VALUES (clock_timestamp())').catch(() => {});
    await delay(Math.max(0, started + (n * 1000) / rate - performance.now()));
  }
}

/** Within which the nodes must be back to order, in milliseconds: several times what they need. */
const LIMIT = 60_000;
const states = (nodes: readonly ChaosNode[]) => () =>
  nodes.map(({ name, exit, state }) => `${name}: ${exit ? 'gone' : state}`).join(', ');

/** Waits until one is active and all others wait for the lease, and have done so for a moment. */
async function settled(nodes: readonly ChaosNode[]): Promise<ChaosNode> {
  const alive = () => nodes.filter(({ exit }) => !exit);
  const active = () => alive().find(({ token }) => token !== null);
  let calm = 0;
  const isCalm = () => {
    calm = active() && alive().every(({ state }) => state !== null) ? calm + 1 : 0;
    return calm > 100;
  };
  await until(isCalm, LIMIT, states(nodes));
  return active()!;
}

/** Waits for a token above this one. */
async function succeeded(nodes: readonly ChaosNode[], token: bigint): Promise<string> {
  const successor = () => nodes.find((node) => node.token !== null && BigInt(node.token) > token);
  await until(successor, LIMIT, states(nodes));
  return successor()!.token!;
}

async function gaps(
  nodes: readonly ChaosNode[],
  causes: ReadonlyMap<string, string>,
): Promise<Map<string, number[]>> {
  const terms = new Map<string, { first: number; last: number }>();
  for (const node of nodes) {
    for (const report of await node.journal()) {
      if (report.kind !== 'event') continue;
      const { fencingToken } = report.event;
      const first = terms.get(fencingToken!)?.first ?? report.at;
      terms.set(fencingToken!, { first, last: report.at });
    }
  }
  const times = new Map<string, number[]>();
  // A token is a time: the next term has the next higher one.
  const tokens = [...terms.keys()].toSorted((a, b) => Number(BigInt(a) - BigInt(b)));
  for (const [token, cause] of causes) {
    const next = tokens[tokens.indexOf(token) + 1]!;
    const gap = terms.get(next)!.first - terms.get(token)!.last;
    times.set(cause, [...(times.get(cause) ?? []), gap]);
  }
  return times;
}
