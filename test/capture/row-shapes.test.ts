/** Data in the log, written as the triggers write it, and what events have of it. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import { ChangeLog } from '../../src/capture/change-log.ts';
import { RowShapes } from '../../src/capture/row-shapes.ts';
import { eventOf } from '../../src/delivery/event.ts';
import { RowDecoder } from '../../src/delivery/row-decoder.ts';
import { Lease } from '../../src/node/lease.ts';
import type { Session } from '../../src/postgres/session.ts';
import { createRole } from '../support/database.ts';
import { setupSessions } from '../support/setup-sessions.ts';

const SHAPE = [
  ['id', 23],
  ['note', 25],
  ['tags', 1009],
];
/** What is easily lost on the way. */
const NOTES = ['plain', '', null, 'a "b", (c) \\ d\n', ')(', '\u{1F600}é', '"', '\\', '{"(1,\\"x\\")"}', ' '];

async function setup() {
  const fixture = await setupSessions({ lease: { duration: 60_000 } });
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database, names } = fixture;
  const session = await fixture.session();
  await database.query(
    `CREATE TABLE IF NOT EXISTS ${names.shapeTable.sql} (name text PRIMARY KEY, columns jsonb NOT NULL)`,
  );
  await database.query(`INSERT INTO ${names.shapeTable.sql} VALUES ('items', $1)`, [JSON.stringify(SHAPE)]);
  /** An UPDATE of these notes, which is packed. */
  const logPacked = (shape: string) =>
    database.query(
      `INSERT INTO ${names.logTable.sql} (at, tbl, id, op, key, size, before, after, shape)
       SELECT now(), 'items', json_agg(n::text), 'UPDATE', '"id" ', count(*),
         string_agg(concat(ROW(n::int, note, ARRAY[note, 'old'])), '' ORDER BY n),
         string_agg(concat(ROW(n::int, note || '!', ARRAY[note, 'new'])), '' ORDER BY n), $2
       FROM unnest($1::text[]) WITH ORDINALITY u (note, n)`,
      [NOTES, shape],
    );
  const logSingle = (shape: string | null, after: string | null) =>
    database.query(
      `INSERT INTO ${names.logTable.sql} (at, tbl, id, op, key, after, shape) VALUES (now(), 'items', '1', 'INSERT', '"id" ', $2, $1)`,
      [shape, after],
    );
  const open = (reading: Session = session) =>
    new ChangeLog(reading, names, { shapes: new RowShapes(reading, names) });
  const decoder = new RowDecoder(pg.types);
  const read = async (log = open()) =>
    (await log.readPage(1000)).changes.map((change) => eventOf(change, 'test', null, decoder));
  return {
    ...fixture,
    session,
    openSession: (options?: Parameters<typeof fixture.session>[0]) => fixture.session(options),
    logPacked,
    logSingle,
    open,
    read,
  };
}

const updates = NOTES.map((note, i) => ({
  before: { id: i + 1, note, tags: [note, 'old'] },
  after: { id: i + 1, note: note === null ? null : `${note}!`, tags: [note, 'new'] },
  changed: note === null ? ['tags'] : ['note', 'tags'],
  dataOmitted: null,
}));

test.each([
  ['a shape in the table', 'items'],
  ['a shape of their own', JSON.stringify(SHAPE)],
])(
  'changes that are packed keep their data under %s, also when some of them are acknowledged',
  async (_, shape) => {
    const { session, names, settings, logPacked, read } = await setup();
    await logPacked(shape);
    const events = await read();
    expect(events).toMatchObject(updates);

    const lease = new Lease(session, names, settings.lease);
    await lease.standBy(new AbortController().signal);
    const acknowledgements = new Acknowledgements(session, names, lease.holding, () => {});
    const numbers = events.map(({ sequence }) => sequence!.slice(0, -16));
    await Promise.all([1, 4, 9].map((i) => acknowledgements.acknowledge(numbers[i]!)));
    const rest = events.filter((_, i) => ![1, 4, 9].includes(i));
    expect(await read()).toEqual(rest);
    await acknowledgements.acknowledge(numbers[0]!);
    expect(await read()).toEqual(rest.slice(1));
  },
);

test('says why data is missing: left out, or of a shape that somebody removed', async () => {
  const { database, names, logSingle, open, read } = await setup();
  await logSingle('too-large', null);
  await logSingle('unreadable', null);
  await logSingle('removed', '(1,a,{})');
  await logSingle(null, null);
  await logSingle('items', '(1,a,{})');
  const log = open();
  const after = { id: 1, note: 'a', tags: [] };
  const omissions = async () => (await read(log)).map(({ dataOmitted }) => dataOmitted);
  expect(await omissions()).toEqual(['too-large', 'unreadable', 'unreadable', null, null]);

  // A shape that was read is kept for the term.
  await database.query(`DELETE FROM ${names.shapeTable.sql}`);
  await logSingle('items', '(1,a,{})');
  expect(await read(log)).toMatchObject([{ after, dataOmitted: null }]);
  expect(await read()).toMatchObject([{}, {}, {}, {}, { dataOmitted: 'unreadable' }, { after: null }]);
});

test('keeps the key of a change whose data is long', async () => {
  const { logSingle, read } = await setup();
  await logSingle('items', `(1,${'x'.repeat(2_000_000)},{})`);
  expect(await read()).toMatchObject([{ id: '1', key: { id: '1' }, after: { id: 1, tags: [] } }]);
});

test('needs the right to read shapes where rows have data, and says so', async () => {
  const { database, names, session, openSession, logSingle, open } = await setup();
  const { role, url } = await createRole(database);
  await database.query(
    `GRANT USAGE ON SCHEMA ${names.schema} TO ${role}; GRANT SELECT ON ${names.logTable.sql} TO ${role}`,
  );
  const reading = await openSession({ url });
  await logSingle(null, null);
  expect((await open(reading).readPage(10)).changes).toHaveLength(1);
  await logSingle('items', '(1,a,{})');
  await expect(open(reading).readPage(10)).rejects.toMatchObject({ code: 'ERR_INSTALL' });
  // Nobody who asks for no data reads shapes, or needs them.
  expect((await new ChangeLog(reading, names).readPage(10)).changes).toMatchObject([
    { shape: null },
    { shape: null },
  ]);
  await database.query(`DROP TABLE ${names.shapeTable.sql}`);
  expect((await new ChangeLog(session, names).readPage(10)).changes).toHaveLength(2);
  await expect(open().readPage(10)).rejects.toMatchObject({ code: 'ERR_INSTALL' });
});
