/**
 * All DDL of an input, as files to read and to compare: test/golden/, a folder for each version of what is installed.
 * `npx vitest run test/schema/golden.test.ts -u` writes the files of the present version.
 */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { withSession } from '../../src/node/connect.ts';
import { createFunction } from '../../src/schema/create-function.ts';
import {
  createSchema,
  createTables,
  dropSchema,
  refuseForeignSchema,
} from '../../src/schema/internal-tables.ts';
import type { Wanted } from '../../src/schema/logging-statements.ts';
import { VERSION, migrate, migrationsFrom } from '../../src/schema/migrations.ts';
import { TRIGGER_EVENTS, type TriggerEvent, namesOf } from '../../src/schema/names.ts';
import { rowDataFunctions } from '../../src/schema/row-data.ts';
import { whenFunction } from '../../src/schema/row-filter.ts';
import { sharedFunctions } from '../../src/schema/shared-functions.ts';
import { candidateTables, chooseTables, type CandidateTable, type Table } from '../../src/schema/tables.ts';
import { createTrigger, recordFunction } from '../../src/schema/trigger-function.ts';
import { setupApplication, installationOf } from '../support/setup-installation.ts';

const golden = (path: string) => new URL(`../golden/${path}`, import.meta.url).pathname;
const names = namesOf('golden', 'postgres_input');

const script = (statements: readonly string[]) => statements.map((sql) => `${sql};\n`).join('\n');
const file = (name: string) => golden(`v${VERSION}/${name}.sql`);

test('the schema', async () => {
  const statements = [...createSchema(names), refuseForeignSchema(names), dropSchema(names)];
  await expect(script(statements)).toMatchFileSnapshot(file('schema'));
});

test.for(Object.entries(createTables(names)))('the internal table %s', async ([name, statements]) => {
  await expect(script(statements)).toMatchFileSnapshot(file(`table.${name}`));
});

test('the function that sends bare notifications', async () => {
  const bare = sharedFunctions(names, 'bare').find(({ name }) => name === names.notifyFunction.name)!;
  await expect(script(createFunction(bare, 'owner'))).toMatchFileSnapshot(file('function.notify.of-bare'));
});

test.for([...sharedFunctions(names, 'changes'), ...rowDataFunctions(names)])(
  'the function $name that all triggers share',
  async (shared) => {
    const [kind] = shared.name.split('_postgres_input_');
    await expect(script(createFunction(shared, 'owner'))).toMatchFileSnapshot(file(`function.${kind}`));
  },
);

test('the steps from the version before', async () => {
  const statements = migrate(names, migrationsFrom(VERSION - 1));
  await expect(script(statements)).toMatchFileSnapshot(file('migration'));
});

describe('the trigger functions', () => {
  const tables = new Map<string, Table>();

  beforeAll(async () => {
    const database = await setupApplication(await readFile(golden('application.sql'), 'utf8'));
    const { settings } = installationOf(database);
    const candidates = await withSession(settings, (session) =>
      session.query<CandidateTable>(candidateTables, [settings.schemas, true]),
    );
    for (const table of chooseTables(candidates, settings).tables)
      tables.set(table.name, { ...table, identity: withFixedOids(table.identity) });
  });

  const make = (
    table: Table,
    event: TriggerEvent,
    events: ReadonlySet<TriggerEvent>,
    rows: Wanted['rows'] = 'none',
    filter: Wanted['filter'] = { changed: null, when: null },
    ignoredOrigins: Wanted['ignoredOrigins'] = [],
  ) =>
    script([
      ...createFunction(
        recordFunction(names, table, event, {
          events,
          rows,
          columns: null,
          maxRowBytes: 1_000_000,
          filter,
          ignoredOrigins,
        }),
        null,
      ),
      createTrigger(names, table, event),
    ]);

  test.for(['orders', 'order_lines', 'notes', 'measurements', 'measurements_rest'])('of %s', async (name) => {
    for (const event of TRIGGER_EVENTS) {
      const sql = make(tables.get(name)!, event, new Set(TRIGGER_EVENTS));
      await expect(sql).toMatchFileSnapshot(file(`${name}.${event}`));
    }
  });

  test.for(['after', 'both'] as const)('of an input with rows: %s', async (rows) => {
    for (const name of ['orders', 'notes', 'measurements'])
      for (const event of ['insert', 'update', 'delete'] as const) {
        if (rows === 'after' && (event === 'delete' || name !== 'orders')) continue;
        const sql = make(tables.get(name)!, event, new Set(TRIGGER_EVENTS), rows);
        await expect(sql).toMatchFileSnapshot(file(`${name}.${event}.rows-${rows}`));
      }
  });

  test.for([
    ['changed', 'none', { changed: ['note'], when: null }, []],
    ['when', 'none', { changed: null, when: "after.note = 'shipped'" }, []],
    ['changed-when', 'both', { changed: ['note'], when: "after.note = 'shipped'" }, ['golden']],
  ] as const)('with the filter %s', async ([name, rows, filter, origins]) => {
    for (const event of ['insert', 'update', 'delete'] as const) {
      if (name === 'changed' && event !== 'update') continue;
      const sql = make(tables.get('orders')!, event, new Set(TRIGGER_EVENTS), rows, filter, origins);
      await expect(sql).toMatchFileSnapshot(file(`orders.${event}.${name}`));
    }
  });

  test('that evaluates a condition', async () => {
    const sql = createFunction(whenFunction(names, 'public', 'orders', "after.note = 'shipped'"), 'owner');
    await expect(script(sql)).toMatchFileSnapshot(file('function.when'));
  });

  test.for(['update', 'insert-and-update', 'update-and-delete'])(
    'of an input for %s only',
    async (events) => {
      const wanted = new Set(TRIGGER_EVENTS.filter((event) => events.split('-and-').includes(event)));
      const sql = make(tables.get('orders')!, 'update', wanted);
      await expect(sql).toMatchFileSnapshot(file(`orders.update.of-${events}`));
    },
  );
});

/** The server numbers tables as they come. */
function withFixedOids(identity: Table['identity']): Table['identity'] {
  const [, index, ...rest] = identity.guard.split(', ');
  const fixedIndex = index!.replace(/^\d+/, '16390');
  return {
    ...identity,
    relation: '16385',
    guard: ['16385::pg_catalog.oid', fixedIndex, ...rest].join(', '),
  };
}
