import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { sparkline } from '../../src/cli/status-watch.ts';
import { exitCode, setupCommands } from './commands.ts';

describe('status --watch', { timeout: 120_000 }, () => {
  it('prints a line of JSON for each look, also after an outage, until Ctrl-C', async () => {
    const { database, run, start } = await setupCommands();
    await run(['install', '--name', 'x']);
    const { child, err } = start(['status', '--name', 'x', '--watch']);
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value);
    /** The first look of which it is true. */
    const until = async (isMeant: (look: Record<string, any>) => boolean) => {
      for (;;) {
        const look = await next();
        if (isMeant(look)) return look;
      }
    };
    expect(await next(), err()).toEqual({
      at: expect.stringMatching(/Z$/),
      id: 'x',
      lease: null,
      backlog: 0,
      oldestChangeAge: null,
      parked: 0,
      rowsLoggedPerSecond: null,
    });
    await next();
    await database.query('INSERT INTO orders SELECT generate_series(1, 40)');
    await until((look) => look['rowsLoggedPerSecond'] > 0);
    const quiet = await until((look) => look['rowsLoggedPerSecond'] === 0);
    expect(quiet).toMatchObject({ backlog: 40, oldestChangeAge: expect.any(Number) });

    await database.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    expect(await until(({ error }) => error !== undefined)).toEqual({
      at: expect.stringMatching(/Z$/),
      error: expect.stringContaining('connection'),
    });
    expect(await until(({ error }) => error === undefined)).toMatchObject({ backlog: 40 });
    child.kill('SIGINT');
    expect(await exitCode(child)).toBe(0);
    expect(err()).toBe('');
  });

  it('draws the same lines again on a terminal', async () => {
    const { database, run } = await setupCommands();
    await run(['install', '--name', 'x']);
    const frames: string[] = [];
    const stdout = new Writable({
      write(chunk, _encoding, done) {
        frames.push(String(chunk));
        done();
      },
    });
    const stderr = new Writable({ write: (_chunk, _encoding, done) => done() });
    const terminal = { stdout: Object.assign(stdout, { isTTY: true }), stderr };
    const ended = main(['status', '--name', 'x', '--watch'], {
      ...terminal,
      env: { DATABASE_DSN: database.url },
    });
    await expect.poll(() => frames.length).toBeGreaterThan(0);
    await database.query('INSERT INTO orders VALUES (1), (2)');
    await expect.poll(() => frames.at(-1)).toContain('2 changes');
    process.emit('SIGINT');
    expect(await ended).toBe(0);
    expect(frames[0]).toContain('active   no node');
    expect(frames[0]).not.toContain('\u001B[6A');
    const last = frames.at(-1)!;
    expect(last.startsWith('\u001B[6A'), 'goes up to the first of six lines').toBe(true);
    expect(last).toMatch(/backlog {2}2 changes +█/);
    expect(last).toMatch(/lag {6}\d+ s, the oldest change/);
    expect(last).toMatch(/parked {3}0 events/);
  });

  it('ends when its reader hangs up', async () => {
    const { run, start } = await setupCommands();
    await run(['install', '--name', 'x']);
    const { child } = start(['status', '--name', 'x', '--watch']);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    expect(await exitCode(child)).toBe(0);
  });

  it('ends at once where nothing is installed', async () => {
    const { run } = await setupCommands();
    expect(await run(['status', '--name', 'x', '--watch'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('nothing of this input is installed'),
    });
  });
});

it('a sparkline shows nothing as a gap, and the largest value as a full bar', () => {
  expect(sparkline([0, 1, 4, 8])).toBe(' ▁▄█');
  expect(sparkline([0, 0])).toBe('  ');
  expect(sparkline([1000, 1])).toBe('█▁');
});
