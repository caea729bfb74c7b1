/** The nodes of a run: processes, each behind a proxy of its own, and a record of what was done to them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Exit, type NodeProcess, spawnNode } from '../support/processes.ts';
import { type Proxy, startProxy } from '../support/proxy.ts';
import type { Server } from '../support/server.ts';
import type { NodeTask, Report } from './protocol.ts';

export type Settings = Pick<
  NodeTask,
  'schemas' | 'lease' | 'consumer' | 'work' | 'reconnect' | 'calm' | 'wakeup'
>;

/** Something that was done to a node, or happened to it, from when till when. */
export interface Mishap {
  readonly kind: string;
  readonly from: number;
  /** Infinity as long as it lasts. */
  to: number;
}

export interface ChaosNode extends AsyncDisposable {
  /** Also the application_name of its connections. */
  readonly name: string;
  readonly process: NodeProcess<Report>;
  readonly proxy: Proxy;
  readonly settings: Settings;
  /** The token under which it is active, as far as it has told. */
  token: string | null;
  /** Null until it has come as far as to wait for the lease, and while it is reconnecting. */
  state: 'standby' | 'active' | null;
  /** Whether it has ever come that far. */
  hasJoined: boolean;
  /** Whether its handlers fail no longer. */
  isCalm: boolean;
  exit: Exit | null;
  readonly mishaps: Mishap[];
  /** Notes that something is being done to it; the function that is returned notes the end. */
  suffer(kind: string): () => void;
  /** All it has reported, in order. */
  journal(): Promise<Report[]>;
}

export async function startNode(
  name: string,
  server: Server,
  database: string,
  folder: string,
  settings: Settings,
): Promise<ChaosNode> {
  const proxy = await startProxy('127.0.0.1', server.port);
  const url = new URL(proxy.url(server.url(database)));
  url.searchParams.set('application_name', name);
  const journal = join(folder, name);
  const task: NodeTask = { ...settings, url: url.href, journal };
  const process = spawnNode<Report>(new URL('node.ts', import.meta.url), { args: [JSON.stringify(task)] });
  const mishaps: Mishap[] = [];
  const node: ChaosNode = {
    name,
    process,
    proxy,
    settings,
    token: null,
    state: null,
    hasJoined: false,
    isCalm: settings.calm,
    exit: null,
    mishaps,
    suffer(kind) {
      const mishap = { kind, from: Date.now(), to: Infinity };
      mishaps.push(mishap);
      return () => void (mishap.to = Date.now());
    },
    async journal() {
      const lines = (await readFile(journal, 'utf8').catch(() => '')).split('\n');
      return lines.slice(0, -1).map((line) => JSON.parse(line) as Report);
    },
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await proxy.close();
    },
  };
  void follow(node);
  return node;
}

async function follow(node: ChaosNode): Promise<void> {
  for await (const report of node.process.messages) {
    if (report.kind === 'state') {
      node.hasJoined = true;
      node.token = report.token;
      node.state = report.token === null ? 'standby' : 'active';
    } else if (report.kind === 'calm') {
      node.isCalm = true;
    } else if (report.kind === 'reconnecting') {
      node.token = null;
      node.state = null;
    }
  }
  node.exit = await node.process.exited;
  node.token = null;
}
