import { describe, expect, it } from 'vitest';
import { until } from '../support/until.ts';
import { exitCode, setupCommands } from './commands.ts';

async function setup() {
  const commands = await setupCommands();
  await commands.run(['install', '--name', 'x']);
  await commands.database.query(
    'INSERT INTO orders SELECT generate_series(1, 500); DELETE FROM postgres_input.log_postgres_input_x',
  );
  return commands;
}

describe('backfill', () => {
  it('asks, without any node; a node that comes later reads, and --wait tells how far it is', async () => {
    const { run, runJson, startTail } = await setup();
    const asked = await runJson('backfill', '--name', 'x', '--table', 'orders', '--where', 'id % 2 = 0');
    expect(asked).toEqual({
      id: expect.stringMatching(/^\d{19}$/),
      tables: [{ table: 'orders', done: 0, estimated: expect.any(Number), state: 'waiting', error: null }],
    });
    expect((await run(['backfill', '--name', 'x', '--pause'])).out).toMatch(/\norders +paused +0 /);
    expect((await run(['backfill', '--name', 'x', '--resume'])).out).toMatch(/\norders +waiting +0 /);
    const { child, next } = await startTail('--name', 'x', '--join');
    expect(await next()).toMatchObject({ operation: 'read', location: 'orders', id: '2' });
    const waited = await run(['backfill', '--name', 'x', '--id', asked.id, '--wait']);
    expect(waited).toMatchObject({ code: 0, out: expect.stringMatching(/\norders +done +250 /) });
    expect(waited.err).toMatch(/done +\[#+\.*\] 250 rows of about [\d,]+, [\d,]+ rows\/s/);
    child.kill('SIGINT');
    await exitCode(child);
  });

  it('cancels', async () => {
    const { run, runJson } = await setup();
    await runJson('backfill', '--name', 'x');
    expect((await run(['backfill', '--name', 'x', '--cancel'])).out).toMatch(/\norders +cancelled +0 /);
    expect(await run(['backfill', '--name', 'x', '--cancel'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('no backfill of input x is under way'),
    });
  });

  it('does not take a backfill for done that the database no longer has', async () => {
    const { database, run } = await setup();
    const waiting = run(['backfill', '--name', 'x', '--wait']);
    await until(
      async () =>
        (await database.query('DELETE FROM postgres_input.backfill_postgres_input_x RETURNING 1')).length > 0,
    );
    expect(await waiting).toMatchObject({ code: 1, err: expect.stringContaining('no longer has backfill') });
  });

  it('shows a table that could not be read, whatever its name commands the terminal', async () => {
    const { database, run, runJson } = await setup();
    const { id } = await runJson('backfill', '--name', 'x', '--table', 'orders');
    await database.query(`UPDATE postgres_input.backfill_postgres_input_x
      SET location = E'\\x1b[2J', state = 'cancelled', error = E'no\\rway' WHERE backfill = ${id}`);
    const { code, err } = await run(['backfill', '--name', 'x', '--id', id, '--wait']);
    expect(code).toBe(3);
    expect(err).toContain('dapper-postgres-input: \\u001b[2J: no\\u000dway\n');
  });

  it.each([
    [['--table', ''], 'no table is'],
    [['--where', ''], 'orders: '],
    [['--table', 'nope'], 'nope is not watched'],
    [['--table', 'orders', '--where', 'nope = 1'], 'column "nope" does not exist'],
    [['--table', 'orders', '--where', 'id'], 'orders: '],
    [['--table', 'orders', '--where', 'true); DROP TABLE orders; --'], 'orders: '],
    [['--chunk', '0'], '--chunk must be a whole number'],
    [['--pause', '--cancel'], 'give one of'],
    [['--pause', '--where', 'true'], 'are for a new backfill'],
  ])('refuses %j', async (args, message) => {
    const { run } = await setup();
    expect(await run(['backfill', '--name', 'x', ...args])).toMatchObject({
      code: 2,
      err: expect.stringContaining(message),
    });
  });

  it('has its rights printed by plan --grant-to, when asked for', async () => {
    const { run } = await setup();
    const grant = 'GRANT SELECT ON TABLE "public"."orders" TO "node"';
    expect((await run(['plan', '--name', 'x', '--grant-to', 'node', '--backfill'])).out).toContain(grant);
    expect((await run(['plan', '--name', 'x', '--grant-to', 'node'])).out).not.toContain(grant);
  });
});
