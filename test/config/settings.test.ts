import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import pg from 'pg';
import { parse as parseToml } from 'smol-toml';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { PostgresInputError } from '../../src/api/errors.ts';
import type { PostgresInputOptions } from '../../src/api/options.ts';
import type { InputConfig } from '../../src/api/orchestrator.ts';
import {
  inputId,
  parseConfig,
  parseHandleOptions,
  parseProcessOptions,
  type Settings,
} from '../../src/config/settings.ts';

const CONFIG: InputConfig = {
  name: 'orders-input',
  type: 'postgres',
  connectionString: 'postgres://app:hunter2@db.example/shop',
};

/** The error that a config is refused with; undefined if it is taken. */
function refusal(config: unknown, options?: unknown): PostgresInputError | undefined {
  try {
    parseConfig(config, options);
    return undefined;
  } catch (error) {
    if (error instanceof PostgresInputError) return error;
    throw error;
  }
}

/** The violations that a refused config is told of. */
function problems(config: unknown, options?: unknown): string[] {
  const error = refusal(config, options);
  expect(error).toMatchObject({ code: 'ERR_CONFIG_INVALID', retryable: false });
  expect(error).not.toHaveProperty('cause');
  expect(inspect(error, { depth: null, showHidden: true })).not.toContain('hunter2');
  return (error?.message ?? '').split('\n- ').slice(1);
}

describe('the config', () => {
  test('needs nothing more than the contract does, and everything has a default', () => {
    const { target, ...settings } = parseConfig(CONFIG);
    expect(settings).toEqual({
      name: 'orders-input',
      id: 'orders_input',
      operations: new Set(['create', 'read', 'update', 'delete']),
      connectTimeout: 500,
      schemas: ['public'],
      tables: { include: [], exclude: [] },
      rows: 'none',
      initial: 'none',
      skipUnchanged: false,
      ignoreOrigins: [],
      maxRowBytes: 1_000_000,
      types: pg.types,
      internalSchema: 'postgres_input',
      install: true,
      discoveryInterval: 5000,
      lockTimeout: 100,
      lease: { duration: 5000, renewInterval: 1000, margin: 1000, pollInterval: 250 },
      maxInFlight: 1000,
      foreignNotifications: 'accept',
      notifications: 'changes',
      wakeup: 'notify',
      listenTarget: null,
    });
    expect(target.candidates).toMatchObject([{ host: 'db.example', user: 'app', database: 'shop' }]);
  });

  test('needs no type, since nobody looks for the function by it', () => {
    const { type: _, ...direct } = CONFIG;
    expect(parseConfig(direct)).toMatchObject({ name: 'orders-input' });
  });

  test('may come out of a TOML file, as the original spells it', () => {
    const file = parseToml(`
      [inputs.orders]
      name = "test_input"
      type = "postgres"
      connection_string = "host=localhost dbname='my shop'"
      operation = ["CREATE", "update", "Remove"]
    `);
    const settings = parseConfig((file['inputs'] as Record<string, unknown>)['orders']);
    expect(settings.operations).toEqual(new Set(['create', 'update', 'delete']));
    expect(settings.target.candidates).toMatchObject([{ host: 'localhost', database: 'my shop' }]);
  });

  test('may come out of a JSON file, with null for what is not given and keys of the orchestrator', () => {
    const json =
      '{"name":"a","type":"postgres","connection_string":"host=h","operations":null,"process":["x"]}';
    const settings = parseConfig(JSON.parse(json), JSON.parse('{"lease":{"duration":9000}}'));
    expect(settings.operations.size).toBe(4);
    expect(settings.lease).toEqual({ duration: 9000, renewInterval: 1000, margin: 1000, pollInterval: 250 });
  });

  test.each([[undefined], [[]]])('reads the list %j as every operation', (operations) => {
    expect(parseConfig({ ...CONFIG, operations }).operations).toEqual(
      new Set(['create', 'read', 'update', 'delete']),
    );
  });

  test.each([{ operations: ['read'] }, { operation: ['READ', 'read'] }])('refuses %j', (config) => {
    expect(problems({ ...CONFIG, ...config })).toEqual([
      "config.operations: tells of no table, since no change of a row is a read: add 'create', 'update' or 'delete', or leave operations out",
    ]);
  });

  test('takes two spellings of one key that agree, and refuses two that differ', () => {
    const same = {
      connection_string: CONFIG.connectionString,
      operation: ['create'],
      operations: ['create'],
    };
    expect(parseConfig({ ...CONFIG, ...same }).operations).toEqual(new Set(['create']));

    expect(
      problems({ ...CONFIG, connection_string: 'postgres://hunter2', operation: ['read'], operations: [] }),
    ).toEqual([
      'config.connection_string: differs from connectionString, which means the same: keep one of them',
      'config.operation: differs from operations, which means the same: keep one of them',
    ]);
  });

  test.each(['a', 'two words', 'it\'s "quoted"', 'schema.table', 'größe-\u{1F600}', 'x'.repeat(200)])(
    'takes the name %j',
    (name) => {
      expect(parseConfig({ ...CONFIG, name })).toMatchObject({ name, id: name.replaceAll('-', '_') });
    },
  );

  test.each([
    [{ name: '' }, 'config.name: must not be empty'],
    [{ name: '  ' }, 'config.name: must not be empty'],
    [{ name: 'a\0b' }, 'config.name: must be valid text without NUL'],
    [{ name: '\ud800' }, 'config.name: must be valid text without NUL'],
    [{ name: 7 }, 'config.name: Invalid input: expected string, received number'],
    [{ type: '' }, 'config.type: must not be empty'],
    [{ type: 7 }, 'config.type: Invalid input: expected string, received number'],
    [
      { connectionString: undefined },
      'config.connectionString: must be a string: a postgres:// URL or key=value pairs',
    ],
    [{ operations: 'create' }, 'config.operations: Invalid input: expected array, received string'],
    [
      { operations: ['create', 'unknown'] },
      'config.operations.1: "unknown" is not an operation: use create, insert, read, update, delete, remove',
    ],
  ])('refuses %j', (wrong, problem) => {
    expect(problems({ ...CONFIG, ...wrong })).toEqual([problem]);
  });

  test.each([undefined, null, 7, 'postgres://app:hunter2@h', []])(
    'refuses %j in place of a config',
    (config) => {
      expect(problems(config).length).toBeGreaterThan(0);
    },
  );

  test('leaves a wrong connection string to its own error', () => {
    expect(refusal({ ...CONFIG, connectionString: '' })?.code).toBe('ERR_CONNECTION_STRING');
    expect(refusal({ ...CONFIG, connectionString: 'password=hunter2 hots=h' })?.code).toBe(
      'ERR_CONNECTION_STRING',
    );
  });

  test('is refused with every violation at once', () => {
    const config = { name: '', type: '', connection_string: 7, operation: ['upsert'] };
    expect(
      problems(config, { lockTimout: 5, maxInFlight: 0 }).map((problem) => problem.split(': ')[0]),
    ).toEqual([
      'config.name',
      'config.type',
      'config.connectionString',
      'config.operations.0',
      'options.maxInFlight',
      'options',
    ]);
  });
});

describe('the options', () => {
  test('are taken as they are', () => {
    const options = {
      connectTimeout: 1,
      schemas: ['a', 'b'],
      tables: { include: ['a.*', 'b'], exclude: ['tmp_*'] },
      internalSchema: 'inner "one"',
      install: false,
      discoveryInterval: 2 ** 31 - 1,
      lockTimeout: 1,
      lease: { duration: 300, renewInterval: 100, margin: 199, pollInterval: 1 },
      maxInFlight: 1,
      foreignNotifications: 'ignore',
      notifications: 'bare',
    } satisfies PostgresInputOptions;
    expect(parseConfig(CONFIG, options)).toMatchObject(options);
  });

  test('win over the connection string, which wins over the default', () => {
    const config = { ...CONFIG, connectionString: 'host=h connect_timeout=3' };
    expect(parseConfig(config).connectTimeout).toBe(3000);
    expect(parseConfig(config, { connectTimeout: 50 }).connectTimeout).toBe(50);
  });

  test('may name a way around a pooler, whose password is as secret as that of the connection string', () => {
    const config = { ...CONFIG, connectionString: 'host=pooler password=hunter2' };
    const settings = parseConfig(config, { listenConnectionString: 'host=direct password=swordfish' });
    expect(settings.listenTarget!.candidates).toMatchObject([{ host: 'direct' }]);
    for (const { secrets } of [settings.target, settings.listenTarget!])
      expect(secrets.toSorted()).toEqual(['hunter2', 'swordfish']);
    expect(inspect(settings, { depth: null, showHidden: true })).not.toMatch(/password: '/);
    expect(settings).not.toHaveProperty('listenConnectionString');
    const error = refusal(config, { listenConnectionString: 'password=swordfish hots=h' });
    expect(error?.code).toBe('ERR_CONNECTION_STRING');
    expect(error?.message).toMatch(/^listenConnectionString: /);
    expect(error?.message).not.toContain('swordfish');
  });

  const number = 'must be a whole number of milliseconds, from 1 to 2147483647';
  test.each([
    [{ connectTimeout: 0 }, `options.connectTimeout: ${number}`],
    [{ wakeup: 'listen' }, "options.wakeup: must be 'auto', 'notify' or 'poll'"],
    [
      { wakeup: 'poll', listenConnectionString: 'host=h' },
      "options.listenConnectionString: is the way by which notifications arrive, and wakeup: 'poll' does without: keep one of them",
    ],
    [{ discoveryInterval: 2 ** 31 }, `options.discoveryInterval: ${number}`],
    [{ lockTimeout: 1.5 }, `options.lockTimeout: ${number}`],
    [{ lockTimeout: '100' }, `options.lockTimeout: ${number}`],
    [{ lockTimeout: Number.NaN }, `options.lockTimeout: ${number}`],
    [{ lease: { pollInterval: 0 } }, `options.lease.pollInterval: ${number}`],
    [
      { lease: { duration: 2000 } },
      'options.lease: renewInterval + margin must be less than duration, or the holder gives up before it has renewed',
    ],
    [{ lease: { ttl: 1 } }, 'options.lease: has no "ttl": use duration, renewInterval, margin, pollInterval'],
    [{ tables: { only: ['a'] } }, 'options.tables: has no "only": use include, exclude'],
    [{ tables: { include: [''] } }, 'options.tables.include.0: must not be empty'],
    [
      { watch: { a: {} }, tables: { include: ['a'] } },
      'options.watch: says which tables are watched, and so does tables.include: keep one of them',
    ],
    [{ watch: {} }, 'options.watch: must name at least one table, or be left out'],
    [
      { watch: { a: { where: '' } } },
      'options.watch.a: has no "where": use operations, rows, columns, changed, when',
    ],
    [{ watch: { a: { changed: [] } } }, 'options.watch.a.changed: must name at least one column'],
    [{ watch: { a: { when: ' ' } } }, 'options.watch.a.when: must not be empty'],
    [
      { watch: { a: { operations: ['read'] } } },
      "options.watch.a.operations: must have at least one of 'create', 'update' and 'delete', or be left out",
    ],
    [
      { watch: { a: { columns: { only: ['x'] } } } },
      'options.watch.a.columns: must be a list of columns, or { exclude: a list of columns }',
    ],
    [{ schemas: [] }, 'options.schemas: must name at least one schema'],
    [{ schemas: ['x'.repeat(64)] }, 'options.schemas.0: must be at most 63 bytes long'],
    [{ schemas: ['ü'.repeat(32)] }, 'options.schemas.0: must be at most 63 bytes long'],
    [
      { internalSchema: 'pg_input' },
      'options.internalSchema: must not begin with pg_, which PostgreSQL keeps for itself',
    ],
    [{ maxInFlight: 0 }, 'options.maxInFlight: must be a whole number, from 1 to 1000000'],
    [{ install: 'no' }, 'options.install: Invalid input: expected boolean, received string'],
    [{ notifications: 'none' }, 'options.notifications: Invalid option: expected one of "changes"|"bare"'],
    [
      { foreignNotifications: 'throw' },
      'options.foreignNotifications: Invalid option: expected one of "accept"|"ignore"',
    ],
  ])('refuse %j', (options, problem) => {
    expect(problems(CONFIG, options)).toEqual([problem]);
  });

  test('name what they know when a key is misspelt', () => {
    expect(problems(CONFIG, { lockTimout: 5 })).toEqual([
      expect.stringMatching(/^options: has no "lockTimout": use connectTimeout, .*lockTimeout/),
    ]);
  });

  test('are the fields of Settings, filled in', () => {
    expectTypeOf<Settings>().toExtend<{ lease: Required<NonNullable<PostgresInputOptions['lease']>> }>();
    expectTypeOf<Settings['connectTimeout']>().toEqualTypeOf<number>();
  });
});

test('an id is the name with every - turned into _', () => {
  expect(inputId('a-b--c d')).toBe('a_b__c d');
});

describe('the options of handle', () => {
  test('have defaults', () => {
    expect(parseHandleOptions({})).toEqual({ ack: 'auto', reconnect: null, slowAfter: 60_000 });
    const { signal } = new AbortController();
    expect(parseHandleOptions({ signal, ack: undefined, reconnect: true })).toEqual({
      signal,
      ack: 'auto',
      reconnect: { minDelay: 100, maxDelay: 10_000 },
      slowAfter: 60_000,
    });
    expect(parseHandleOptions({ ack: 'manual', reconnect: { maxDelay: 500 } })).toEqual({
      ack: 'manual',
      reconnect: { minDelay: 100, maxDelay: 500 },
      slowAfter: 60_000,
    });
    expect(parseHandleOptions({ reconnect: false }).reconnect).toBe(null);
  });

  test.each([
    [{ ack: 'Auto' }, "handle.ack: must be 'auto' or 'manual'"],
    [{ signal: 'SIGTERM' }, 'handle.signal: must be an AbortSignal'],
    [{ reconnect: { minDelay: 0 } }, 'handle.reconnect.minDelay: must be a whole number of milliseconds'],
    [
      { reconnect: { minDelay: 2, maxDelay: 1 } },
      'handle.reconnect: minDelay must not be more than maxDelay',
    ],
    [{ reconnect: 'yes' }, 'handle.reconnect: '],
    [{ reconect: true }, 'handle: has no "reconect": use signal, ack, reconnect'],
    [null, 'handle: '],
  ])('are refused when they are wrong: %j', (options, problem) => {
    expect(() => parseHandleOptions(options)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID', message: expect.stringContaining(problem) }),
    );
  });
});

describe('the defaults in the comments of the public options', () => {
  const source = readFileSync(new URL('../../src/api/options.ts', import.meta.url), 'utf8');

  /** The members of an interface, each with the default that its comment names. */
  function documented(name: string): Record<string, unknown> {
    const body = new RegExp(`^export interface ${name} \\{\\n([^]*?)^\\}`, 'm').exec(source)![1]!;
    const members = [...body.matchAll(/\/\*\*((?:[^*]|\*(?!\/))*)\*\/\s*(\w+)\??:/g)];
    return Object.fromEntries(members.map(([, comment, member]) => [member, defaultIn(comment!)]));
  }
  function defaultIn(comment: string): unknown {
    const text = /Default: (?:`([^`]+)`|(\w+))/.exec(comment.replace(/\s*\*\s*/g, ' '));
    // A JavaScript literal.
    return text && runInNewContext(`const none = undefined; (${text[1] ?? text[2]})`);
  }
  const plain = (value: unknown) => JSON.parse(JSON.stringify(value));

  test.each([
    ['LeaseSettings', () => parseConfig(CONFIG).lease],
    ['PostgresInputOptions', () => parseConfig(CONFIG)],
    [
      'HandleOptions',
      () => ({ ...parseHandleOptions({}), reconnect: parseHandleOptions({}).reconnect ?? false }),
    ],
  ] as const)('are those of %s', (name, actual) => {
    const { lease, ...defaults } = documented(name);
    expect(lease ?? null).toBe(null); // its own interface names them
    expect(Object.keys(defaults).length).toBeGreaterThan(1);
    expect(plain(actual())).toMatchObject(plain(defaults));
  });

  test('say what reconnect: true stands for', () => {
    const text = /`true` stands for `([^`]+)`/.exec(source)![1]!;
    expect(plain(parseHandleOptions({ reconnect: true }).reconnect)).toEqual(
      plain(runInNewContext(`(${text})`)),
    );
  });
});

describe('the options of process', () => {
  const handler = () => {};

  test('have defaults', () => {
    expect(parseProcessOptions(handler, {})).toEqual({
      reconnect: { minDelay: 100, maxDelay: 10_000 },
      concurrency: 1,
      retry: { attempts: Infinity, minDelay: 1000, maxDelay: 180_000 },
      exhausted: 'park',
      slowAfter: 60_000,
    });
    expect(parseProcessOptions(handler, { reconnect: false, retry: { attempts: 3 } })).toMatchObject({
      reconnect: null,
      retry: { attempts: 3, minDelay: 1000 },
    });
  });

  test.each([
    [undefined, {}, 'handler: must be a function'],
    [handler, { concurrency: 0 }, 'process.concurrency: must be a whole number, from 1 to 10000'],
    [handler, { key: 'id' }, 'process.key: must be a function'],
    [handler, { retry: { attempts: 0 } }, 'process.retry.attempts'],
    [
      handler,
      { retry: { minDelay: 2, maxDelay: 1 } },
      'process.retry: minDelay must not be more than maxDelay',
    ],
    [handler, { exhausted: 'drop' }, "process.exhausted: must be 'park' or 'stop'"],
    [handler, { ack: 'auto' }, 'process: has no "ack"'],
  ])('that break a rule are refused: %s, %s', (given, options, problem) => {
    expect(() => parseProcessOptions(given, options)).toThrow(problem);
  });
});
