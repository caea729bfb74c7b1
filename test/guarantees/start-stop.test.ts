/** Ten nodes that are started and ended in every way there is, while somebody writes. */
import { getEventListeners } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import {
  type ChangeEvent,
  type PostgresInput,
  PostgresInputError,
  newPostgresInput,
} from '../../src/index.ts';
import { Random } from '../chaos/random.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const ROUNDS = 50;
const NODES = 10;
// Long, so that a machine that stalls costs nobody the lease, and that a timer that is left is still there at the end.
const lease = { duration: 180_000, renewInterval: 60_000, margin: 1000, pollInterval: 20 };

/** How often each change was handed out, and how often it should have been. */
class Ledger {
  readonly handedOut = new Map<string, number>();
  readonly ids = new Set<string>();
  readonly #again = new Map<string, number>();
  readonly #perhaps = new Map<string, number>();

  note({ id, sequence }: ChangeEvent): void {
    this.ids.add(id);
    add(this.handedOut, sequence!);
  }
  /** It was in hand when its consumer left. */
  comesAgain(sequence: string): void {
    add(this.#again, sequence);
  }
  /** It may have been in hand, or its acknowledgement under way, when a connection was lost. */
  mayComeAgain(sequence: string): void {
    add(this.#perhaps, sequence);
  }
  /** What came more or less often than it should have. */
  get wrong(): string[] {
    return [...this.handedOut].flatMap(([sequence, times]) => {
      const least = 1 + (this.#again.get(sequence) ?? 0);
      const most = least + (this.#perhaps.get(sequence) ?? 0);
      return times < least || times > most ? `${sequence}: ${times} times, not ${least} to ${most}` : [];
    });
  }
}

const add = (counts: Map<string, number>, key: string) => void counts.set(key, (counts.get(key) ?? 0) + 1);

/** One handle() and its consumer. */
class Run {
  readonly abort = new AbortController();
  readonly reason = new Error('enough');
  readonly events: AsyncIterableIterator<ChangeEvent, undefined>;
  readonly ended: Promise<void>;
  isEnding = false;
  /** Somebody ended one of its sessions. */
  wasCut = false;
  readonly #ledger: Ledger;
  readonly #random: Random;
  #inHand: string | null = null;
  #hasLeft = false;
  /** What it was handed since it last lost a connection. */
  #term: string[] = [];

  constructor(input: PostgresInput, ledger: Ledger, random: Random) {
    this.#ledger = ledger;
    this.#random = random;
    this.events = input.handle({ signal: this.abort.signal, reconnect: random.chance(0.5) });
    this.ended = this.#consume();
  }

  async #consume(): Promise<void> {
    try {
      for (;;) {
        this.#inHand = null;
        const { done, value } = await this.events.next();
        if (done) return;
        this.#ledger.note(value);
        this.#term.push(value.sequence!);
        if (this.#hasLeft) this.#ledger.comesAgain(value.sequence!);
        else this.#inHand = value.sequence;
        for (let turns = this.#random.int(0, 5); turns > 0; turns--) await setImmediate();
      }
    } catch (error) {
      if (error === this.reason) return;
      if (!this.wasCut || !(error instanceof PostgresInputError) || !error.retryable) throw error;
    } finally {
      this.isEnding = true;
      if (this.wasCut) this.loses();
    }
  }

  /** To be called right before the consumer leaves by abort or return: what is in hand comes again. */
  leave(): void {
    this.isEnding = true;
    if (!this.#hasLeft && this.#inHand !== null) this.#ledger.comesAgain(this.#inHand);
    this.#inHand = null;
    this.#hasLeft = true;
  }

  loses(): void {
    for (const sequence of this.#term) this.#ledger.mayComeAgain(sequence);
    this.#term = [];
  }
}

test('fifty rounds of starts and stops lose nothing, repeat nothing, and leave nothing behind', async () => {
  await using database = await createDatabase();
  const client = await database.client();
  const query = async (sql: string, values: unknown[] = []) => (await client.query(sql, values)).rows;
  await query('CREATE TABLE items (id int PRIMARY KEY)');
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on('warning', warn);
  onTestFinished(() => void process.off('warning', warn));
  const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)]);
  const resources = () => process.getActiveResourcesInfo();
  const before = { listeners: listeners(), resources: resources() };

  const random = new Random(Number(process.env['SEED'] ?? 1));
  const ledger = new Ledger();
  const signals: AbortSignal[] = [];
  const nodes = new Map<number, { input: PostgresInput; run: Run | null }>();
  const create = async (index: number) => {
    const url = new URL(database.url);
    url.searchParams.set('application_name', `node-${index}`);
    const config = { name: 'stress', type: 'postgres', connectionString: url.href };
    const input = await newPostgresInput(config, { ...PATIENT, lease });
    const node = { input, run: null as Run | null };
    input.on('reconnecting', () => node.run?.loses());
    nodes.set(index, node);
  };
  const start = (node: { input: PostgresInput; run: Run | null }) => {
    node.run = new Run(node.input, ledger, random.fork());
    signals.push(node.run.abort.signal);
    expect(() => node.input.handle()).toThrow(expect.objectContaining({ code: 'ERR_ALREADY_HANDLING' }));
  };

  /** Each resolves when it is over. */
  const ways = {
    close: async ({ input, run }: { input: PostgresInput; run: Run | null }) => {
      if (run) run.isEnding = true;
      await Promise.all([input.close(), input.close()]);
      expect(() => input.handle()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    },
    dispose: async ({ input, run }: { input: PostgresInput; run: Run | null }) => {
      run?.leave();
      await Promise.all([input[Symbol.asyncDispose](), input[Symbol.asyncDispose]()]);
    },
    'close and abort': async ({ input, run }: { input: PostgresInput; run: Run | null }) => {
      const closed = input.close();
      run?.leave();
      run?.abort.abort(run.reason);
      await closed;
    },
    abort: async ({ run }: { run: Run | null }) => {
      run?.leave();
      run?.abort.abort(run.reason);
      run?.abort.abort(run.reason);
    },
    return: async ({ run }: { run: Run | null }) => {
      run?.leave();
      await Promise.all([run?.events.return?.(), run?.events.return?.()]);
    },
    throw: async ({ run }: { run: Run | null }) => {
      run?.leave();
      await expect(run?.events.throw?.(new Error('out'))).rejects.toThrow('out');
    },
  };
  const end = async (index: number, way: keyof typeof ways) => {
    const node = nodes.get(index)!;
    const { run } = node;
    await ways[way](node);
    await run?.ended;
    node.run = null;
    if (node.input.state === 'closed') await create(index);
  };
  const terminate = (index: number) =>
    query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE application_name = $1 AND datname = current_database() LIMIT 1`,
      [`node-${index}`],
    );

  await Promise.all(Array.from({ length: NODES }, (_, index) => create(index)));
  start(nodes.get(0)!);
  await until(() => nodes.get(0)!.input.state === 'active'); // it has installed
  const under = new Set<Promise<unknown>>();
  const busy = new Set<number>();
  let written = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const indices = Array.from({ length: NODES }, (_, index) => index).filter((index) => !busy.has(index));
    for (let actions = random.int(2, 6); actions > 0 && indices.length > 0; actions--) {
      const [index] = indices.splice(random.int(0, indices.length - 1), 1);
      const node = nodes.get(index!)!;
      if (node.run?.isEnding) node.run = null;
      const action = random.weighted({ start: 4, end: 4, 'start and end': 2, terminate: 1 });
      if (action === 'terminate' && node.run) {
        node.run.wasCut = true;
        await terminate(index!);
      }
      if (action.startsWith('start') && !node.run) start(node);
      if (!action.endsWith('end') || (!node.run && random.chance(0.7))) continue;
      const way = random.pick(Object.keys(ways) as (keyof typeof ways)[]);
      if (way === 'throw' && !node.run) continue;
      busy.add(index!);
      const ending = end(index!, way).finally(() => (under.delete(ending), busy.delete(index!)));
      under.add(ending);
    }
    await query('INSERT INTO items SELECT generate_series($1::int, $1::int + 4)', [written]);
    written += 5;
    if (random.chance(0.7)) await Promise.all(under);
    const running = () => [...nodes.values()].filter(({ run }) => run && !run.isEnding);
    await until(
      () => running().length === 0 || running().some(({ input }) => input.state === 'active'),
      undefined,
      () =>
        `round ${round}: an active one among ${running()
          .map(({ input }) => input.state)
          .join()}`,
    );
  }
  await Promise.all(under);

  // The lease ends up with whoever is left, who gets what is left.
  await Promise.all([...nodes.keys()].filter((index) => index !== 0).map((index) => end(index, 'close')));
  const last = nodes.get(0);
  if (last!.run?.isEnding !== false) start(last!);
  await until(() => last!.input.state === 'active');
  const log = 'postgres_input.log_postgres_input_stress';
  await until(async () => (await query(`SELECT FROM ${log}`)).length === 0);
  await last!.input.close();
  await last!.run!.ended;
  await Promise.all([...nodes.values()].map(({ input }) => input.close()));

  expect(ledger.wrong).toEqual([]);
  expect(ledger.ids.size).toBe(written);
  expect(ledger.handedOut.size).toBe(written);
  const sessions = `SELECT application_name, state, query FROM pg_stat_activity WHERE application_name LIKE 'node-%' AND datname = current_database()`;
  await expect.poll(() => query(sessions)).toEqual([]);
  expect(await query('SELECT holder FROM postgres_input.lock_postgres_input_stress')).toEqual([
    { holder: null },
  ]);
  const more = () => {
    const left = [...before.resources];
    return resources().filter(
      (kind) => !left.includes(kind) || left.splice(left.indexOf(kind), 1).length < 1,
    );
  };
  await until(
    () => more().length === 0,
    undefined,
    () => `no more of ${more().join()}`,
  );
  expect(listeners()).toEqual(before.listeners);
  expect(signals.flatMap((signal) => getEventListeners(signal, 'abort'))).toEqual([]);
  expect(warnings).toEqual([]);
}, 120_000);
