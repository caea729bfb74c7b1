/** The replicas: starts them, listens to what they report, ends them. */
import { EventEmitter, once } from 'node:events';
import type { ChangeEvent } from 'dapper-postgres-input';
import { type NodeProcess, spawnNode } from '../../test/support/processes.ts';
import type { Database } from './database.ts';
import type { Report } from './replica.ts';
import type { Column } from './screen.ts';

export interface Replica extends Column {
  readonly process: NodeProcess<Report>;
  state: Column['state'];
  /** Together with its predecessors of that name. */
  received: number;
  /** The token of the lease that it holds, or that it held last. */
  fencingToken?: string;
}

export class Overdue extends Error {}

export class Cluster implements AsyncDisposable {
  /** The latest of each name. */
  readonly replicas: Replica[] = [];
  /** Everything that was reported, by whomever. */
  readonly received: ChangeEvent[] = [];
  readonly sequences = new Set<string | null>();
  readonly #database: Database;
  /** Emits `report`, and `error` when there is no more to wait for. */
  readonly #news = new EventEmitter();

  /** `interrupt` ends all waiting. */
  constructor(database: Database, interrupt: AbortSignal) {
    this.#database = database;
    this.#news.on('error', () => {});
    interrupt.addEventListener('abort', () => this.#news.emit('error', interrupt.reason));
  }

  get active(): Replica | undefined {
    return this.replicas.find(({ state }) => state === 'active');
  }

  start(name: string): Replica {
    const { dsn, schema, internalSchema } = this.#database;
    const env = { DEMO_DSN: dsn, DEMO_SCHEMA: schema, DEMO_INTERNAL_SCHEMA: internalSchema };
    const process = spawnNode<Report>(new URL('replica.ts', import.meta.url), { env });
    const place = this.replicas.findIndex((other) => other.name === name);
    const received = this.replicas[place]?.received ?? 0;
    const replica: Replica = { name, process, state: 'starting', received };
    this.replicas.splice(place < 0 ? this.replicas.length : place, 1, replica);
    void this.#listenTo(replica);
    return replica;
  }

  async end(replica: Replica, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    replica.state = 'gone';
    replica.process.signal(signal);
    const { code } = await replica.process.exited;
    if (signal === 'SIGTERM' && code !== 0) throw failureOf(replica);
  }

  /** Ends those that are left, the active one last, so that no other takes over. */
  async stop(): Promise<void> {
    const left = this.replicas.filter(({ state }) => state !== 'gone');
    for (const replica of left.filter(({ state }) => state !== 'active')) await this.end(replica, 'SIGTERM');
    for (const replica of left.filter(({ state }) => state === 'active')) await this.end(replica, 'SIGTERM');
  }

  /** Resolves when the condition holds. Rejects when a replica dies by itself, and with `Overdue` after 30 seconds. */
  async until(condition: () => boolean): Promise<void> {
    const timer = setTimeout(() => this.#news.emit('error', new Overdue('30 s have passed')), 30_000);
    try {
      while (!condition()) await once(this.#news, 'report');
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.replicas.map((replica) => this.end(replica, 'SIGKILL')));
  }

  async #listenTo(replica: Replica): Promise<void> {
    for await (const report of replica.process.messages) {
      if (report.type === 'received') {
        replica.received++;
        this.received.push(report.event);
        this.sequences.add(report.event.sequence);
      } else if (replica.state !== 'gone') {
        replica.state = report.type;
        if (report.type === 'active') replica.fencingToken = report.fencingToken;
      }
      this.#news.emit('report');
    }
    if (replica.state !== 'gone') this.#news.emit('error', failureOf(replica));
  }
}

const failureOf = ({ name, process }: Replica): Error => new Error(`${name} failed:\n${process.output()}`);
