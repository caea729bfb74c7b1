/** A random schedule of everything that can befall a node or the server. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Direction } from '../support/proxy.ts';
import type { ChaosNode } from './cluster.ts';
import type { Random } from './random.ts';
import type { ServerFaults } from './server-faults.ts';

/** What the faults need of a run. */
export interface Victims {
  /** Those whose process lives. */
  readonly nodes: () => ChaosNode[];
  readonly join: () => Promise<unknown>;
  /** How many nodes there should be. */
  readonly size: number;
  readonly server: Pick<ServerFaults, 'restart' | 'goBack'>;
  /** How far the database's clock is ahead from now on, in milliseconds. */
  readonly setClock: (ahead: number) => Promise<void>;
  readonly query: (sql: string, values: unknown[]) => Promise<{ pid: number }[]>;
  /** The lease's duration, in milliseconds. */
  readonly duration: number;
}

type Fault = (node: ChaosNode, random: Random, victims: Victims) => Promise<void>;

const DIRECTIONS: readonly Direction[] = ['both', 'to-server', 'to-client'];

/** Some end well before the lease expires, others long after. */
const aWhile = (random: Random, { duration }: Victims) => random.int(duration / 10, duration * 2);

async function silence(node: ChaosNode, random: Random, victims: Victims, all: boolean): Promise<void> {
  const direction = random.pick(DIRECTIONS);
  const healed = node.suffer(all ? `silence ${direction}` : `silence of one ${direction}`);
  const connections = node.proxy.connections.map(({ index }) => index);
  node.proxy.freeze(direction, all ? undefined : random.pick(connections));
  await delay(aWhile(random, victims));
  node.proxy.thaw();
  healed();
}

const faults = {
  kill: async (node) => {
    node.suffer('kill');
    node.process.signal('SIGKILL');
    await node.process.exited;
  },
  freeze: async (node, random, victims) => {
    const healed = node.suffer('freeze');
    node.process.signal('SIGSTOP');
    await delay(aWhile(random, victims));
    node.process.signal('SIGCONT');
    healed();
  },
  /** The one that is none: the node ends by itself, and nothing may come twice. */
  end: async (node) => {
    if (!node.hasJoined) return;
    node.process.signal('SIGTERM');
    await Promise.race([node.process.exited, delay(30_000, undefined, { ref: false })]);
  },
  backends: async (node, random, { query }) => {
    const found = await query(
      'SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY backend_start',
      [node.name],
    );
    const doomed = random.chance(0.3) || found.length === 0 ? found : [random.pick(found)];
    for (const { pid } of doomed) {
      const healed = node.suffer('terminated backend');
      await query('SELECT pg_terminate_backend($1)', [pid]);
      healed();
      await delay(random.int(0, 200));
    }
  },
  /** A slow network: it does no harm, and stretches the moments in which the reader falls asleep. */
  hiccups: async (node, random) => {
    for (let n = random.int(3, 20); n > 0; n--) {
      const { connections } = node.proxy;
      const one = connections.length === 0 || random.chance(0.3) ? undefined : random.pick(connections).index;
      node.proxy.freeze('to-client', one);
      await delay(random.int(5, 80));
      node.proxy.thaw();
      await delay(random.int(0, 50));
    }
  },
  silence: (node, random, victims) => silence(node, random, victims, true),
  silenceOne: (node, random, victims) => silence(node, random, victims, false),
  cut: async (node, random) => {
    const healed = node.suffer('cut');
    node.proxy.cut(random.chance(0.5) ? undefined : ({ index }) => index % 2 === random.int(0, 1));
    healed();
  },
  restart: (_node, random, { server }) =>
    server.restart(random.pick(['fast', 'immediate']), random.chance(0.5) ? 0 : random.int(0, 1500)),
  /** While acknowledgements do not reach the server, nothing makes it flush what it hands out. */
  crash: async (node, random, victims) => {
    const healed = node.suffer('silence to-server');
    node.proxy.freeze('to-server');
    await delay(random.int(0, victims.duration / 2));
    await victims.server.restart('kill', 0);
    node.proxy.thaw();
    healed();
  },
  failover: (_node, random, { server }) => server.goBack('failover', random.int(0, 500), random.int(0, 3000)),
  restore: (_node, random, { server }) => server.goBack('restore', 0, random.int(0, 3000)),
  setClock: (_node, random, { setClock, duration }) => {
    const distance = random.pick([duration / 2, duration * 2, 60_000, 3_600_000]);
    return setClock(random.pick([-1, 0, 1]) * distance);
  },
  join: async (_node, _random, { nodes, size, join }) => {
    if (nodes().length < size + 2) await join();
  },
} satisfies Record<string, Fault>;

export type Weights = Record<keyof typeof faults, number>;

const WEIGHTS: Weights = {
  kill: 3,
  freeze: 3,
  end: 4,
  backends: 3,
  silence: 3,
  silenceOne: 2,
  cut: 2,
  hiccups: 5,
  restart: 0.6,
  crash: 0.6,
  failover: 0.4,
  restore: 0.4,
  setClock: 2,
  join: 1,
};

/**
 * What a run lets happen. Either the server goes back, or its clock is set: a token rises over a rewind since it is no lower than the time, which
 * promises nothing if the time goes back as well.
 */
export const plan = (random: Random, weights: Partial<Weights> = {}) => {
  const goesBack = random.chance(0.5);
  const without: Partial<Weights> = goesBack ? { setClock: 0 } : { crash: 0, failover: 0, restore: 0 };
  return { goesBack, weights: { ...WEIGHTS, ...weights, ...without } };
};

/** Lets one fault follow the other, also while earlier ones last, until `signal` aborts; then waits for their end. */
export async function wreakHavoc(
  victims: Victims,
  weights: Weights,
  random: Random,
  signal: AbortSignal,
  tell: (line: string) => void,
): Promise<void> {
  const underWay = new Map<Promise<void>, ChaosNode>();
  while (!signal.aborted) {
    const kind = random.weighted(weights);
    const preferActive = random.chance(0.7);
    const mayCoincide = random.chance(0.1);
    const ownRandom = random.fork();
    await delay(random.int(50, victims.duration), undefined, { signal }).catch(() => {});

    const nodes = victims.nodes().filter((node) => mayCoincide || ![...underWay.values()].includes(node));
    const active = nodes.filter(({ token }) => token !== null);
    const [node] = [preferActive ? active : [], nodes].flatMap((some) =>
      some.length ? [ownRandom.pick(some)] : [],
    );
    if (!node || signal.aborted) continue;
    tell(`${kind} ${node.name}${node.token ? ` (active, token ${node.token})` : ''}`);
    const fault = faults[kind](node, ownRandom, victims)
      // The server is down, the process gone: another fault was faster.
      .catch((error: Error) => tell(`${kind} ${node.name} came to nothing: ${error.message}`))
      .finally(() => underWay.delete(fault));
    underWay.set(fault, node);
    if (victims.nodes().length < victims.size) await victims.join();
  }
  await Promise.all(underWay.keys());
}
