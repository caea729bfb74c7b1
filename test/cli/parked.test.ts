import { describe, expect, it } from 'vitest';
import { parseSequence } from '../../src/schema/log-layout.ts';
import { setupCommands } from './commands.ts';

/** An input with three parked events. */
async function setupParked() {
  const commands = await setupCommands();
  const { database, run, runJson } = commands;
  await run(['install', '--name', 'x']);
  await database.query(`
    INSERT INTO orders VALUES (1), (2), (3);
    WITH gone AS (DELETE FROM postgres_input.log_postgres_input_x RETURNING *)
    INSERT INTO postgres_input.parked_postgres_input_x (sequence, seq, xid, at, tbl, id, op, key, attempts, error)
    SELECT seq || (extract(epoch FROM at) * 1000000)::bigint::text, seq, xid, at, tbl, id, op, key, 4, E'no route\n  at there' FROM gone`);
  const { parked } = await runJson('parked', '--name', 'x');
  const sequences: string[] = parked.map(({ sequence }: { sequence: string }) => sequence);
  return { ...commands, parked, sequences };
}

describe('commands on events', () => {
  it.each(['parked', 'redrive --all', 'discard --all', 'backfill'])(
    'find that the input is not there, as one with a mistyped name: %s',
    async (line) => {
      const { run } = await setupCommands();
      const err = 'nothing of input slaes is installed in schema postgres_input of this database';
      expect(await run([...line.split(' '), '--name', 'slaes'])).toMatchObject({
        code: 1,
        out: '',
        err: expect.stringContaining(err),
      });
    },
  );
});

describe('parked', () => {
  it('lists the events with what they carry, and why they were parked', async () => {
    const { run, runJson, parked, sequences } = await setupParked();
    expect(parked).toMatchObject([
      {
        location: 'orders',
        operation: 'create',
        id: '1',
        key: { id: '1' },
        attempts: 4,
        error: 'no route\n  at there',
      },
      { id: '2' },
      { id: '3' },
    ]);
    expect(sequences.every((sequence) => parseSequence(sequence)?.at)).toBe(true);
    const { out } = await run(['parked', '--name', 'x', '--limit', '1', '--after', sequences[0]!]);
    expect(out).toMatch(
      /^SEQUENCE +CHANGE +ATTEMPTS +PARKED AT +ERROR\n\d+ +create orders 2 +4 +\S+Z +no route\n$/,
    );
    expect(await runJson('discard', '--name', 'x', '--all')).toEqual({ discarded: 3 });
    expect((await run(['parked', '--name', 'x'])).out).toBe('no event is parked\n');
  });

  it.each([
    [['--limit', '0'], '--limit must be a whole number'],
    [['--after', 'x'], '--after must be the sequence'],
  ])('refuses %s', async (args, message) => {
    const { run } = await setupCommands();
    expect(await run(['parked', '--name', 'x', ...args])).toMatchObject({
      code: 2,
      err: expect.stringContaining(message),
    });
  });
});

describe('redrive and discard', () => {
  it('do so with the events that are named, or with every one', async () => {
    const { run, runJson, sequences } = await setupParked();
    expect(await run(['redrive', '--name', 'x', '--sequences', sequences[1]!])).toEqual({
      code: 0,
      out: 'redriven 1 event\n',
      err: '',
    });
    expect((await runJson('status', '--name', 'x')).backlog).toBe(1);
    // It is no longer parked.
    const again = await run(['discard', '--name', 'x', '--sequences', sequences.join(',')]);
    expect(again).toMatchObject({ code: 3, out: 'discarded 2 events\n' });
    expect(await run(['redrive', '--name', 'x', '--all'])).toMatchObject({
      code: 0,
      out: 'redriven 0 events\n',
    });
  });

  it.each([
    [[], 'either --sequences or --all'],
    [['--all', '--sequences', '1000'], 'either --sequences or --all'],
    [['--sequences', '1000,x'], 'x is not the sequence of an event'],
  ])('refuse %s', async (args, message) => {
    const { run } = await setupCommands();
    for (const command of ['redrive', 'discard'])
      expect(await run([command, '--name', 'x', ...args])).toMatchObject({
        code: 2,
        err: expect.stringContaining(message),
      });
  });

  it('are not done by uninstalling, unless somebody says so', async () => {
    const { run } = await setupParked();
    const refused = await run(['uninstall', '--name', 'x']);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('3 parked events would be lost') });
    expect((await run(['uninstall', '--name', 'x', '--yes'])).code).toBe(0);
  });
});
