/** Databases whose encoding is not UTF8. */
import { expect, inject, onTestFinished, test } from 'vitest';
import { type ChangeEvent, newPostgresInput } from '../../src/index.ts';
import { createDatabase } from '../support/database.ts';

test('an error of a handler is kept whose text has characters that the encoding lacks', async () => {
  const database = await createDatabase(inject('adminUrl'), `template0 ENCODING 'LATIN1' LOCALE 'C'`);
  await database.query('CREATE TABLE café (id text PRIMARY KEY)');
  const input = await newPostgresInput(
    { name: 'test', connectionString: database.url },
    { connectTimeout: 10_000, rows: 'after', initial: 'read' },
  );
  onTestFinished(() => input[Symbol.asyncDispose]());
  await database.query(`INSERT INTO café VALUES ('é')`);
  const parked = new Promise<void>((resolve) => {
    let left = 2;
    input.on('parked', () => {
      if (--left === 0) resolve();
    });
  });
  const processing = input.process(
    ({ operation }: ChangeEvent) => {
      throw new Error(`“${operation}” → 日本`);
    },
    { retry: { attempts: 2, minDelay: 1, maxDelay: 1 } },
  );
  input.once('asleep', () => void database.query(`INSERT INTO café VALUES ('è')`));
  await Promise.race([parked, processing]);
  const all = (await input.parked()).toSorted((one, other) => (one.operation < other.operation ? -1 : 1));
  expect(all.map(({ operation, id, after, error }) => [operation, id, after, error.split('\n')[0]])).toEqual([
    ['create', 'è', { id: 'è' }, String.raw`Error: \u201ccreate\u201d \u2192 \u65e5\u672c`],
    ['read', 'é', { id: 'é' }, String.raw`Error: \u201cread\u201d \u2192 \u65e5\u672c`],
  ]);
  await input.close();
  await processing;
});
