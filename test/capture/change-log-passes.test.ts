import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { ChangeLog } from '../../src/capture/change-log.ts';
import { parseConfig } from '../../src/config/settings.ts';
import { Session } from '../../src/postgres/session.ts';
import { createTables } from '../../src/schema/internal-tables.ts';
import { namesOf } from '../../src/schema/names.ts';
import { createDatabase } from '../support/database.ts';

/** A change log without triggers, its reader, and transactions that write into it by hand. */
async function setup(mayReadSequence: boolean) {
  const database = await createDatabase();
  const role = mayReadSequence ? undefined : `reader_of_${database.name}`;
  const settings = parseConfig(
    { name: 'test', type: 'postgres', connectionString: database.url },
    { connectTimeout: 10_000 },
  );
  const names = namesOf(settings.id, settings.internalSchema);
  const { lock, log: logTable } = createTables(names);
  await database.query(`CREATE SCHEMA ${names.schema}; ${[...lock, ...logTable].join(';')}`);
  if (role) {
    await database.query(`CREATE ROLE ${role}; GRANT USAGE ON SCHEMA ${names.schema} TO ${role};
      GRANT SELECT ON ALL TABLES IN SCHEMA ${names.schema} TO ${role}`);
    onTestFinished(async () => void (await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)));
  }
  const session = await Session.connect(settings.target, {
    connectTimeout: 10_000,
    statementTimeout: 10_000,
    applicationName: 'test',
  });
  onTestFinished(() => session.close());
  if (role) await session.query(`SET ROLE ${role}`);
  const log = new ChangeLog(session, names);

  const write = (client: pg.Client, id: string) =>
    client.query(`INSERT INTO ${names.logTable.sql} (at, tbl, id, op) VALUES (now(), 'item', $1, 'INSERT')`, [
      id,
    ]);
  const pass = async (rows = 100) => {
    const ids: string[] = [];
    for (;;) {
      const { changes, last } = await log.readPage(rows);
      ids.push(...changes.map(({ id }) => id));
      if (last) return ids;
    }
  };
  /** A transaction that has an xid already: those begun later have higher ones. */
  const begin = async () => {
    const client = await database.client();
    await client.query('BEGIN');
    await client.query('SELECT pg_current_xact_id()');
    return client;
  };
  return { write, pass, begin, commit: (client: pg.Client) => client.query('COMMIT') };
}

for (const mayReadSequence of [true, false]) {
  const who = mayReadSequence ? 'its owner' : 'a role that may not read the sequence';

  test(`a pass as ${who} reads a low sequence of a transaction that began after all others and commits last`, async () => {
    const { write, pass, begin, commit } = await setup(mayReadSequence);
    expect(await pass()).toEqual([]);
    const older = await begin();
    const younger = await begin();
    await write(younger, 'first drawn, last committed');
    await write(older, 'last drawn, first committed');
    await commit(older);
    expect(await pass()).toEqual(['last drawn, first committed']);
    await commit(younger);
    expect(await pass()).toEqual(['first drawn, last committed']);
    expect(await pass()).toEqual([]);
  });

  test(`a pass as ${who} reads that sequence also when the first pass saw the transaction open and others have ended since`, async () => {
    const { write, pass, begin, commit } = await setup(mayReadSequence);
    const [oldest, older, younger] = [await begin(), await begin(), await begin()];
    await write(younger, 'a');
    await write(older, 'b');
    await write(oldest, 'c');
    await commit(oldest);
    expect(await pass(1)).toEqual(['c']);
    const other = await begin();
    await write(other, 'd');
    await commit(other);
    expect(await pass(1)).toEqual(['d']);
    await commit(older);
    expect(await pass(1)).toEqual(['b']);
    expect(await pass(1)).toEqual([]);
    await commit(younger);
    expect(await pass(1)).toEqual(['a']);
    expect(await pass(1)).toEqual([]);
  });
}
