/** What `ack: 'manual'` is for: several workers, each done with its event when it is done. */
import { expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent } from '../../src/index.ts';
import { Random } from '../chaos/random.ts';
import { Consumer, reaches } from '../support/consumer.ts';
import { type TestDatabase } from '../support/database.ts';
import { startNode, stopNodes } from '../support/node-process.ts';
import type { Report } from '../support/node.ts';
import type { NodeProcess } from '../support/processes.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

const AT_ONCE = 8;
const ROWS = 12;
const CHANGES = 25;
/** Nobody loses it because the machine is busy. */
const lease = { duration: 120_000, renewInterval: 30_000, pollInterval: 50 };

/** Four writers, each with rows of its own, so that the order of a row's changes is known: its operations by id. */
async function write(database: TestDatabase, random: Random): Promise<Map<string, string[]>> {
  const written = new Map<string, string[]>();
  await Promise.all(
    [0, 1, 2, 3].map(async (writer) => {
      const own = random.fork();
      const ids = Array.from({ length: ROWS / 4 }, (_, n) => 4 * n + writer);
      for (let n = 0; n < CHANGES * ids.length; n++) {
        const id = ids[n % ids.length]!;
        const operations = written.get(String(id)) ?? [];
        written.set(String(id), operations);
        const isThere = operations.length > 0 && operations.at(-1) !== 'delete';
        const operation = isThere ? own.pick(['update', 'update', 'delete']) : 'create';
        const sql = {
          create: 'INSERT INTO items VALUES ($1, 0)',
          update: 'UPDATE items SET value = value + 1 WHERE id = $1',
          delete: 'DELETE FROM items WHERE id = $1',
        };
        await database.query(sql[operation as keyof typeof sql], [id]);
        operations.push(operation);
      }
    }),
  );
  return written;
}

/** The operations of each row, in this order. */
function operationsOf(events: readonly ChangeEvent[]): Map<string, string[]> {
  const operations = new Map<string, string[]>();
  for (const { id, operation } of events) operations.set(id, [...(operations.get(id) ?? []), operation]);
  return operations;
}

/** Each row's sequences grow. */
function expectOrder(events: readonly ChangeEvent[]): void {
  const last = new Map<string, bigint>();
  const disordered = events.filter(({ id, sequence }) => {
    const before = last.get(id) ?? 0n;
    last.set(id, BigInt(sequence!));
    return before >= BigInt(sequence!);
  });
  expect(disordered).toEqual([]);
}

test('twelve workers share eight events in hand, in whatever order they acknowledge', async () => {
  await using fixture = await setupInputs();
  const random = new Random(1);
  const input = await fixture.input({ maxInFlight: AT_ONCE, lease });
  const events = input.handle({ ack: 'manual' });
  await reaches(input, 'active');
  const writing = write(fixture.database, random);

  const total = ROWS * CHANGES;
  const handedOut: ChangeEvent[] = [];
  const inHand = new Map<ChangeEvent, () => void>();
  let most = 0;
  const worker = async () => {
    for (;;) {
      const { done, value } = await events.next();
      if (done) return;
      handedOut.push(value);
      await new Promise<void>((resolve) => {
        inHand.set(value, resolve);
        most = Math.max(most, inHand.size);
      });
      inHand.delete(value);
      await input.ack(value);
    }
  };
  const workers = Array.from({ length: 12 }, worker);

  for (let finished = 0; finished < total;) {
    await until(() => inHand.size === Math.min(AT_ONCE, total - finished));
    const finishing = random.int(1, inHand.size);
    for (let n = 0; n < finishing; n++) {
      const [event, finish] = random.pick([...inHand]);
      inHand.delete(event);
      finish();
    }
    finished += finishing;
  }
  expect(most).toBe(AT_ONCE);
  expect(operationsOf(handedOut)).toEqual(await writing);
  expectOrder(handedOut);
  await input.close();
  await Promise.all(workers);
  expect(await fixture.database.query('SELECT FROM postgres_input.log_postgres_input_test_input')).toEqual(
    [],
  );
});

test('after a crash only the events not acknowledged come again, with their sequences', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const random = new Random(2);
  const handedOut = new Map<NodeProcess<Report>, ChangeEvent[]>();
  const acknowledged = new Set<string>();
  /** Of the active node. */
  const inHand = new Map<string, ChangeEvent>();
  const active: NodeProcess<Report>[] = [];

  const options = { maxInFlight: AT_ONCE, lease };
  const nodes = [1, 2, 3, 4].map(() => startNode({ url: database.url, options, handle: { ack: 'manual' } }));
  onTestFinished(() => stopNodes(nodes));
  await Promise.all(nodes.map((node) => node.waitFor(({ is }) => is === 'standby', 60_000)));
  const listening = nodes.map(async (node) => {
    node.send({ do: 'consume' });
    for await (const report of node.messages) {
      if (report.is === 'active') active.push(node);
      if (report.is === 'event') {
        handedOut.set(node, [...(handedOut.get(node) ?? []), report.event]);
        inHand.set(report.event.sequence!, report.event);
      }
      if (report.is === 'acknowledged') {
        if (report.error !== null) throw new Error(report.error);
        acknowledged.add(report.sequence!);
        inHand.delete(report.sequence!);
      }
    }
  });
  await until(() => active.length === 1);
  const writing = write(database, random);

  const total = ROWS * CHANGES;
  const acknowledgeSome = (node: NodeProcess<Report>, count: number) => {
    const left = [...inHand.values()];
    return Array.from({ length: count }, () => {
      const [event] = left.splice(random.int(0, left.length - 1), 1);
      node.send({ do: 'ack', event });
      return event!.sequence!;
    });
  };
  /** What came a second time, and so may and has to. */
  const repeated: string[] = [];
  for (let life = 1; life <= nodes.length; life++) {
    await until(() => active.length === life);
    const node = active.at(-1)!;
    const full = () => inHand.size === Math.min(AT_ONCE, total - acknowledged.size);
    await until(full);
    const end = life === nodes.length ? total : acknowledged.size + total / 5;
    while (acknowledged.size < end) {
      const sequences = acknowledgeSome(node, random.int(1, inHand.size));
      await until(() => sequences.every((sequence) => acknowledged.has(sequence)) && full());
    }
    if (life === nodes.length) break;

    // Twice while nothing is under way, once while acknowledgements are: those may have been in time.
    const underWay = life === 2 ? acknowledgeSome(node, 3) : [];
    node.signal('SIGKILL');
    await node.exited;
    await listening[nodes.indexOf(node)];
    const hand = [...inHand.keys()];
    const lost = hand.filter((sequence) => !underWay.includes(sequence));
    inHand.clear();
    await until(() => active.length === life + 1 && full());
    const logged = await database.query('SELECT seq FROM postgres_input.log_postgres_input_test_input');
    const rows = new Set(logged.map(({ seq }) => String(seq)));
    // A public sequence is the number in the log, and sixteen digits of the time.
    const waiting = new Set(hand.filter((sequence) => rows.has(sequence.slice(0, -16))));
    expect(lost.filter((sequence) => !waiting.has(sequence))).toEqual([]);
    for (const sequence of hand) if (waiting.has(sequence)) repeated.push(sequence);
    for (const sequence of underWay) if (!waiting.has(sequence)) acknowledged.add(sequence);
  }

  const all = [...handedOut.values()].flat();
  for (const events of handedOut.values()) expectOrder(events);
  const times = new Map<string, number>();
  for (const { sequence } of all) times.set(sequence!, (times.get(sequence!) ?? 0) + 1);
  const again = [...times].flatMap(([sequence, count]) => Array.from({ length: count - 1 }, () => sequence));
  expect(again.toSorted()).toEqual(repeated.toSorted());
  const first = new Map(all.map((event) => [event.sequence!, event]));
  const inOrder = [...first.values()].toSorted((a, b) => Number(BigInt(a.sequence!) - BigInt(b.sequence!)));
  expect(operationsOf(inOrder)).toEqual(await writing);
  expect(await database.query('SELECT FROM postgres_input.log_postgres_input_test_input')).toEqual([]);
}, 120_000);

test('an altered event is refused, and the iteration goes on', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const consumer = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  await fixture.database.query('INSERT INTO items VALUES (1)');
  await consumer.count(1);
  const event = consumer.events[0]!;
  const client = await fixture.database.client();
  await client.query('BEGIN');
  const damage: Record<string, unknown>[] = [
    { sequence: Number(event.sequence) },
    { sequence: '' },
    { sequence: '12x' },
    { sequence: `{${event.sequence}}` },
    { sequence: '9'.repeat(40) },
    { sequence: undefined },
    { fencingToken: Number(event.fencingToken) },
    { fencingToken: null },
    { fencingToken: 'x' },
  ];
  for (const part of damage) {
    for (const by of [undefined, client]) {
      await expect(input.ack({ ...event, ...part }, by)).rejects.toMatchObject({
        code: 'ERR_CONFIG_INVALID',
      });
    }
  }
  for (const nothing of [undefined, null, 7, {}])
    await expect(input.ack(nothing as never)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  await client.query('COMMIT'); // the transaction has not failed
  expect(input.state).toBe('active');
  await input.ack(event);
  await fixture.database.query('INSERT INTO items VALUES (2)');
  await consumer.count(2);
});

test('an acknowledgement that the database refuses rejects with an error that says what to do', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const events = input.handle({ ack: 'manual' });
  await reaches(input, 'active');
  await fixture.database.query('INSERT INTO items VALUES (1)');
  const { value: event } = await events.next();
  await fixture.database.query(
    'ALTER TABLE postgres_input.log_postgres_input_test_input RENAME TO elsewhere',
  );
  await expect(input.ack(event!)).rejects.toMatchObject({
    code: 'ERR_INSTALL',
    message: expect.stringContaining('plan'),
  });
});
