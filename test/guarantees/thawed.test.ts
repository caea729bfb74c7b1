import { expect, onTestFinished, test } from 'vitest';
import { once, reaches } from '../support/consumer.ts';
import { startNode } from '../support/node-process.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

test.each(['auto', 'manual'] as const)(
  'a node frozen past its lease hands out no event of the lost term, and rejoins, with ack: %s',
  async (ack) => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const options = { lease: { duration: 3000, renewInterval: 600, margin: 600 } };
    const frozen = startNode({ url: database.url, options, handle: { ack } });
    onTestFinished(() => frozen[Symbol.asyncDispose]());
    await frozen.waitFor(({ is }) => is === 'asleep', 60_000);
    const other = await fixture.input(options);
    const events = other.handle({ ack });
    await reaches(other, 'standby');
    const logged = async () => {
      const rows = await database.query(
        'SELECT id FROM postgres_input.log_postgres_input_test_input ORDER BY seq',
      );
      return rows.map(({ id }) => id);
    };

    await database.query('INSERT INTO items SELECT generate_series(1, 10)');
    frozen.send({ do: 'pull' });
    const first = await frozen.waitFor((report) => report.is === 'event');
    const stale = first.is === 'event' ? first.event : undefined;
    expect(stale).toMatchObject({ id: '1', fencingToken: expect.stringMatching(/^\d{16}$/) });
    frozen.signal('SIGSTOP');
    await reaches(other, 'active');
    const again = (await events.next()).value!;
    expect(again).toEqual({ ...stale, fencingToken: expect.stringMatching(/^\d{16}$/) });
    expect(BigInt(again.fencingToken!)).toBeGreaterThan(BigInt(stale!.fencingToken!));

    // The first thing that it gets to do is to hand out one more, and to acknowledge what it has in hand.
    frozen.send({ do: 'pull' });
    frozen.send({ do: 'ack', event: stale! });
    frozen.signal('SIGCONT');
    expect(await frozen.waitFor(({ is }) => is === 'acknowledged')).toEqual({
      is: 'acknowledged',
      sequence: stale!.sequence,
      error: 'ERR_LEASE_LOST',
    });
    await frozen.waitFor(({ is }) => is === 'standby');
    expect(await logged()).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']);

    const ids: string[] = [again.id];
    await other.ack(again);
    for (let id = 2; id <= 10; id++) {
      const event = (await events.next()).value!;
      await other.ack(event);
      ids.push(event.id);
    }
    await until(async () => (await logged()).length === 0);
    expect(ids).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']);
    const asleep = once(other, 'asleep');
    await database.query(`NOTIFY test_input, '[]'`);
    await asleep;
    await database.query('INSERT INTO items VALUES (11)');
    expect((await events.next()).value).toMatchObject({ id: '11' });
    await other.ack(again); // a second time, which does nothing
    await other.close();
    await events.next();

    // The pull is still the one from before; what it had in its buffer then is gone. Nobody has acknowledged 11 by hand.
    await frozen.waitFor(({ is }) => is === 'active');
    await database.query('INSERT INTO items VALUES (12)');
    const next = await frozen.waitFor(({ is }) => is === 'event' || is === 'ended');
    const id = ack === 'auto' ? '12' : '11';
    expect(next).toMatchObject({ is: 'event', event: { id } });
    const token = next.is === 'event' ? next.event.fencingToken! : '0';
    expect(BigInt(token)).toBeGreaterThan(BigInt(again.fencingToken!));
  },
  60_000,
);
