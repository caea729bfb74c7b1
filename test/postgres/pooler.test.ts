import { Writable } from 'node:stream';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { parseConnectionString } from '../../src/config/connection-string.ts';
import { newPostgresInput } from '../../src/index.ts';
import { Session } from '../../src/postgres/session.ts';
import { PATIENT } from '../support/consumer.ts';
import { type PoolerOptions, startPooler } from '../support/pooler.ts';
import { startProxy } from '../support/proxy.ts';
import { startServer } from '../support/server.ts';
import { KINDS, UNTOUCHED, findings, setupPooler } from '../support/setup-pooler.ts';

let adminUrl: string;

/** Poolers are asked to let postgres in without a password, which a server at TEST_DB_URL may not do. */
beforeAll(async () => {
  if (!process.env['TEST_DB_URL']) return void (adminUrl = inject('adminUrl'));
  const server = await startServer();
  adminUrl = server.url();
  return () => server[Symbol.asyncDispose]();
});

const connect = (url: string, connectTimeout = 15_000) =>
  Session.connect(parseConnectionString(url), {
    connectTimeout,
    statementTimeout: 20_000,
    applicationName: 'test',
  });

const command =
  (...args: string[]) =>
  async (url: string): Promise<string> => {
    let text = '';
    const io = () =>
      new Writable({
        write: (chunk, _encoding, done) => {
          text += chunk;
          done();
        },
      });
    const code = await main(args, { stdout: io(), stderr: io(), env: { DATABASE_DSN: url } });
    return code === 0 ? 'done' : text;
  };

const refusal = async (promise: Promise<unknown>): Promise<string> => {
  const result = await promise.then(
    () => 'done',
    (error: unknown) => error,
  );
  if (result instanceof Error) expect(result).toMatchObject({ code: 'ERR_CONNECT' });
  return result instanceof Error ? result.message : String(result);
};

type Entry = (url: string) => Promise<string>;

const ENTRIES: Record<string, Entry> = {
  newPostgresInput: (url) =>
    refusal(newPostgresInput({ name: 'x', type: 'postgres', connectionString: url }, PATIENT)),
  'Session.connect': (url) => refusal(connect(url)),
  plan: command('plan', '--name', 'x'),
  install: command('install', '--name', 'x'),
  status: command('status', '--name', 'x'),
  uninstall: command('uninstall', '--name', 'x'),
  doctor: command('doctor', '--name', 'x'),
  tail: command('tail'),
};

const REFUSAL = /the server itself or through a pooler in session mode/;

async function refused(
  start: typeof startPooler,
  options: PoolerOptions & { backends: number },
  enter: Entry,
) {
  const { database, url } = await setupPooler(adminUrl, start, options);
  const answer = await enter(url);
  const locks = await database.query(
    `SELECT * FROM pg_locks
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  return { answer, locks, found: await findings(database, url, options.backends) };
}

describe.each(KINDS)('%s in transaction mode', (_kind, start) => {
  test.each(Object.entries(ENTRIES))(
    'is refused by %s, which leaves nothing behind',
    async (_name, enter) => {
      const { answer, locks, found } = await refused(start, { reuse: 'newest', backends: 3 }, enter);
      expect(answer).toMatch(REFUSAL);
      expect(locks).toEqual([]);
      expect(found).toEqual([UNTOUCHED, UNTOUCHED, UNTOUCHED]);
    },
  );

  test.each([1, 2, 3])('is refused with backends that take turns: %i', async (backends) => {
    const enter = ENTRIES['Session.connect']!;
    const { answer, found } = await refused(start, { reuse: 'oldest', backends }, enter);
    expect(answer).toMatch(REFUSAL);
    expect(found).toEqual(Array.from({ length: backends }, () => UNTOUCHED));
  });
});

describe('a pooler in transaction mode', () => {
  test('that greets with the process id of a backend is refused, and keeps nothing', async () => {
    const { database, url } = await setupPooler(adminUrl, startPooler, { backends: 3, forwardsPid: true });
    expect(await refusal(connect(url))).toMatch(/in session mode/);
    expect(await findings(database, url, 3)).toEqual([UNTOUCHED, UNTOUCHED, UNTOUCHED]);
  });

  test('whose clients never meet is refused, and keeps no setting', async () => {
    const { database, url } = await setupPooler(adminUrl, startPooler, { backends: 1, secondPool: 1 });
    expect(await refusal(connect(url, 2000))).toMatch(/in session mode/);
    const [found] = await findings(database, url, 1);
    expect(found).toEqual({ ...UNTOUCHED, channels: 1 });
  });

  test.each([
    [2, 1],
    [1, 2],
  ])(
    'whose clients never meet, in pools of %i and %i, leaves nothing behind',
    async (backends, secondPool) => {
      const { database, url } = await setupPooler(adminUrl, startPooler, { backends, secondPool });
      expect(await refusal(connect(url))).toMatch(/in session mode/);
      const [found] = await findings(database, url, 1);
      expect(found).toEqual(UNTOUCHED);
    },
  );

  test('with one idle backend among busy ones is refused', async () => {
    const { database, url } = await setupPooler(adminUrl, startPooler, { backends: 2 });
    const busy = await database.client({ connectionString: url });
    await busy.query('BEGIN');
    expect(await refusal(connect(url))).toMatch(/in session mode/);
    await busy.query('COMMIT');
    expect(await findings(database, url, 2)).toEqual([UNTOUCHED, UNTOUCHED]);
  });
});

describe.each(KINDS)('%s in session mode', (_kind, start) => {
  test('is refused if it gives no second connection', async () => {
    const { url } = await setupPooler(adminUrl, start, { mode: 'session', backends: 1 });
    expect(await refusal(connect(url, 2000))).toMatch(
      /could not be found out .* that has a second connection/,
    );
  });

  test('is accepted, by nodes as well', async () => {
    const { database, url } = await setupPooler(adminUrl, start, { mode: 'session' });
    const session = await connect(url);
    const statement = { name: 'path', text: `SELECT current_setting('search_path') AS path` };
    for (let n = 0; n < 3; n++) expect(await session.query(statement)).toEqual([{ path: 'pg_catalog' }]);
    await session.close();

    const config = { name: 'x', type: 'postgres', connectionString: url };
    const input = await newPostgresInput(config, PATIENT);
    const handling = input.handle();
    const next = handling.next();
    await new Promise<void>((resolve) => input.once('active', () => resolve()));
    await database.query('INSERT INTO orders VALUES (2)');
    expect((await next).value).toMatchObject({ location: 'orders', operation: 'create' });
    await input.close();
  });
});

test('a server without a pooler is checked by one connection, also behind a proxy', async () => {
  const { hostname, port } = new URL(adminUrl);
  await using proxy = await startProxy(hostname, Number(port));
  await (await connect(proxy.url(adminUrl))).close();
  expect(proxy.accepted).toBe(1);
  await (await connect(adminUrl)).close();
});
