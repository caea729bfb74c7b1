import { parse as parseToml } from 'smol-toml';
import { describe, expect, expectTypeOf, test } from 'vitest';
import {
  type ChangeEvent,
  type Row,
  type Event,
  type Input,
  type InputConfig,
  type NewInputFunc,
  type Operation,
  type PostgresInput,
  newPostgresInput,
} from '../../src/index.ts';
import { createDatabase } from '../support/database.ts';

describe('the type contract', () => {
  test('newPostgresInput is a NewInputFunc', () => {
    expectTypeOf(newPostgresInput).toExtend<NewInputFunc>();
    expectTypeOf<Parameters<NewInputFunc>>().toEqualTypeOf<[config: InputConfig]>();
    expectTypeOf<ReturnType<NewInputFunc>>().toEqualTypeOf<Promise<Input>>();
    // What an orchestrator knows is enough to make one.
    expectTypeOf(newPostgresInput).toBeCallableWith({ name: 'a', type: 'postgres', connectionString: '' });
    // Nobody looks the function up in a registry here.
    expectTypeOf(newPostgresInput).toBeCallableWith({ name: 'a', connectionString: '' });
  });

  test('its result is an Input, and its events are Events', () => {
    expectTypeOf<PostgresInput>().toExtend<Input & AsyncDisposable>();
    expectTypeOf<ChangeEvent>().toExtend<Event>();
    expectTypeOf<ReturnType<PostgresInput['handle']>>().toExtend<AsyncIterable<Event>>();
    expectTypeOf<ReturnType<PostgresInput['handle']>>().toExtend<AsyncIterableIterator<ChangeEvent>>();
  });

  test('the types of the contract have exactly these members', () => {
    expectTypeOf<Operation>().toEqualTypeOf<'unknown' | 'create' | 'read' | 'update' | 'delete'>();
    expectTypeOf<Event>().toEqualTypeOf<{
      location: string;
      operation: Operation;
      id: string;
      trigger: string;
    }>();
    expectTypeOf<InputConfig>().toEqualTypeOf<{
      name: string;
      type: string;
      connectionString: string;
      operations?: Operation[];
    }>();
    expectTypeOf<Omit<ChangeEvent, keyof Event>>().toEqualTypeOf<{
      sequence: string | null;
      key: Record<string, string> | null;
      occurredAt: string | null;
      before: Row | null;
      after: Row | null;
      changed: readonly string[] | null;
      dataOmitted: 'too-large' | 'unreadable' | null;
      transaction: string | null;
      origin: string | null;
      context: unknown;
      attempt: number;
      fencingToken: string | null;
    }>();
  });
});

/** How an orchestrator makes its inputs: the type's name leads to the function. */
const registry: ReadonlyMap<string, NewInputFunc> = new Map([['postgres', newPostgresInput]]);

describe('a registry makes an input from', () => {
  test.each([
    [
      'JSON',
      (url: string) =>
        JSON.parse(`{"name": "my-shop", "type": "postgres",
      "connectionString": "${url}", "operations": ["create", "delete"]}`),
    ],
    [
      'JSON that spells as TOML does',
      (url: string) =>
        JSON.parse(`{"name": "my-shop", "type": "postgres",
      "connection_string": "${url}", "operation": ["INSERT", "Remove"]}`),
    ],
    [
      'TOML',
      (url: string) =>
        parseToml(`[[input]]
      name = "my-shop"
      type = "postgres"
      connection_string = "${url}"
      operation = ["insert", "remove"]`).input,
    ],
  ])('%s', async (_format, read) => {
    await using database = await createDatabase();
    await database.query('CREATE TABLE items (id int)');
    const patient = new URL(database.url);
    patient.searchParams.set('connect_timeout', '10');
    const [config] = [read(patient.href)].flat() as InputConfig[];

    const input = await registry.get(config!.type)!(config!);
    expect(input.id).toBe('my_shop');
    const abort = new AbortController();
    const events: Event[] = [];
    const handling = (async () => {
      for await (const event of input.handle({ signal: abort.signal })) {
        if (events.push(event) === 2) abort.abort(new Error('enough'));
      }
    })();
    await expect
      .poll(() => database.query(`SELECT FROM pg_trigger WHERE tgrelid = 'items'::regclass`))
      .toHaveLength(3); // insert, delete, truncate
    await database.query('INSERT INTO items VALUES (7)');
    await database.query('UPDATE items SET id = 8');
    await database.query('DELETE FROM items');
    await expect(handling).rejects.toThrow('enough');
    expect(events).toMatchObject([
      { location: 'items', operation: 'create', id: '7', trigger: 'my_shop' },
      { location: 'items', operation: 'delete', id: '8', trigger: 'my_shop' },
    ]);
  });
});
