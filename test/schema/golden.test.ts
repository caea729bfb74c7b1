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
import { namesOf, type TriggerEvent } from '../../src/schema/names.ts';
import { sharedFunctions } from '../../src/schema/shared-functions.ts';
import { candidateTables, chooseTables, type CandidateTable, type Table } from '../../src/schema/tables.ts';
import { createTrigger, recordFunction } from '../../src/schema/trigger-function.ts';
import { application, input } from '../support/watched.ts';

/** The version of the objects that the code installs. */
const VERSION = 1;

const golden = (path: string) => new URL(`../golden/${path}`, import.meta.url).pathname;
const names = namesOf('golden', 'postgres_input');

async function expectGolden(file: string, statements: readonly string[]): Promise<void> {
  const text = statements.map((statement) => `${statement};\n`).join('\n');
  await expect(text).toMatchFileSnapshot(golden(`v${VERSION}/${file}.sql`));
}

test('the schema and its tables', async () => {
  await expectGolden('schema', [...createSchema(names), refuseForeignSchema(names), dropSchema(names)]);
  for (const [name, statements] of Object.entries(createTables(names)))
    await expectGolden(`table.${name}`, statements);
});

test('the functions that all triggers share', async () => {
  for (const shared of sharedFunctions(names)) {
    const [kind] = shared.name.split('_');
    await expectGolden(`function.${kind}`, createFunction(shared, 'owner'));
  }
});

describe('the trigger functions', () => {
  const tables = new Map<string, Table>();

  beforeAll(async () => {
    const database = await application(await readFile(golden('application.sql'), 'utf8'));
    const { settings } = input(database);
    const candidates = await withSession(settings, (session) =>
      session.query<CandidateTable>(candidateTables, [settings.schemas]),
    );
    for (const table of chooseTables(candidates, settings.tables).tables)
      tables.set(table.name, { ...table, identity: withFixedOids(table.identity) });
  });

  const ALL: ReadonlySet<TriggerEvent> = new Set(['insert', 'update', 'delete', 'truncate']);

  async function expectFunction(
    file: string,
    name: string,
    event: TriggerEvent,
    wanted = ALL,
  ): Promise<void> {
    const table = tables.get(name)!;
    const made = recordFunction(names, table, event, wanted);
    await expectGolden(file, [...createFunction(made, null), createTrigger(names, table, event)]);
  }

  test.for(['orders', 'order_lines', 'notes', 'measurements', 'measurements_rest'])('of %s', async (name) => {
    for (const event of ALL) await expectFunction(`${name}.${event}`, name, event);
  });

  test.for([['update'], ['insert', 'update'], ['update', 'delete']] as const)(
    'of an input for %j only',
    async (events) => {
      const file = `orders.update.of-${events.join('-and-')}`;
      await expectFunction(file, 'orders', 'update', new Set(events));
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
