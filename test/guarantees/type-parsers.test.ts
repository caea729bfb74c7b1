import pg from 'pg';
import { expect, inject, onTestFinished, test } from 'vitest';
import { parseConnectionString } from '../../src/config/connection-string.ts';
import { newPostgresInput } from '../../src/index.ts';
import { Session } from '../../src/postgres/session.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';

/** Parsers that an application sets for all of pg, by the oids of the types. */
const OF_APPLICATIONS: Record<string, [oid: number, parse: (text: string) => unknown][]> = {
  'bigint as a bigint': [[20, BigInt], [1016, (text) => text.match(/\d+/g)?.map(BigInt)]], // prettier-ignore
  'bigint as a number': [[20, Number]],
  'everything as a text': [16, 17, 20, 21, 23, 26, 114, 700, 701, 1005, 1007, 1009, 1016, 3802].map((oid) => [oid, String]), // prettier-ignore
};

function setParsers(name: string): void {
  for (const [oid, parse] of OF_APPLICATIONS[name]!) {
    const before = pg.types.getTypeParser(oid);
    pg.types.setTypeParser(oid, parse);
    onTestFinished(() => pg.types.setTypeParser(oid, before));
  }
}

test.each(Object.keys(OF_APPLICATIONS))(
  'every change comes once to an application that parses %s',
  async (name) => {
    setParsers(name);
    await using database = await createDatabase();
    await database.query('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)');
    const config = { name: 'in', type: 'postgres', connectionString: database.url };
    const input = await newPostgresInput(config, { ...PATIENT, rows: 'both', initial: 'read' });
    const seen: string[] = [];
    const sequences = new Set<unknown>();
    const processed = input.process(
      ({ id, sequence, attempt }) => {
        if (id === '7' && attempt === 1) throw new Error('once');
        seen.push(id);
        sequences.add(sequence);
        if (seen.length === 121) void input.close();
      },
      { retry: { minDelay: 1 } },
    );
    // Now the row that was there has been read, and no other one will be.
    input.once('asleep', () => {
      void database.query('INSERT INTO t SELECT generate_series(1, 100)');
      void database.query('INSERT INTO t SELECT generate_series(101, 120)');
    });
    await processed;
    expect(seen.toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 121 }, (_, i) => `${i}`),
    );
    expect([...sequences].every((sequence) => typeof sequence === 'string')).toBe(true);
    expect(sequences.size).toBe(121);
    expect(await input.status()).toMatchObject({ backlog: 0, forgedNotifications: 0 });
  },
);

test('what our own statements return is parsed as pg does by itself', async () => {
  const statement = `SELECT 1::bigint AS i8, 2::int AS i4, true AS yes, '\\x00ff'::bytea AS bytes, 1.5::float8 AS f8, 26::oid AS oid,
    ARRAY['a', 'b "c" \\ d', '', 'NULL', NULL, '{x,y}'] AS texts, ARRAY[]::text[] AS none, ARRAY[1, NULL]::bigint[] AS i8s,
    '[0:1]={3,4}'::int2[] AS i2s, '{"a": [1]}'::json AS json, '{"a": [1]}'::jsonb AS jsonb`;
  const client = new pg.Client({ connectionString: inject('adminUrl') });
  await client.connect();
  const [byPg] = (await client.query(statement)).rows;
  await client.end();
  setParsers('everything as a text');
  const session = await Session.connect(parseConnectionString(inject('adminUrl')), {
    connectTimeout: 15_000,
    statementTimeout: 15_000,
    applicationName: 'test',
  });
  const [own] = await session.query(statement);
  await session.close();
  expect(own).toEqual(byPg);
});
