/** Starts node.ts, a node as a process of its own, and stops it. */
import type { NodeSetup, Report } from './node.ts';
import { type NodeProcess, spawnNode } from './processes.ts';

export const startNode = (setup: NodeSetup): NodeProcess<Report> =>
  spawnNode<Report>(new URL('node.ts', import.meta.url), { args: [JSON.stringify(setup)] });

export async function stopNodes(nodes: readonly NodeProcess<Report>[]): Promise<void> {
  await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
}
