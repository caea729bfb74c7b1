/** A handler that writes to its own row ends no loop, if it says that it is the input and the input ignores itself. */
import { expect, test } from 'vitest';
import { once } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

test("a handler's own tagged write is no event, and everybody else's is", async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const input = await fixture.input({
    ignoreOrigins: ['self'],
    watch: { items: { changed: ['value'], rows: 'both' } },
  });
  const client = await database.client();
  const seen: unknown[] = [];
  let written = 0;
  const active = once(input, 'active');
  const rounds = (async () => {
    for await (const event of input.handle()) {
      seen.push([event.operation, event.id]);
      if (event.id === '3') break;
      await client.query('BEGIN');
      await input.tag(client);
      await client.query('UPDATE items SET value = value + 1 WHERE id = $1', [event.id]);
      await client.query('COMMIT');
      written++;
    }
  })();
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await database.query('INSERT INTO items VALUES (2, 0)');
  await database.query('UPDATE items SET value = 10 WHERE id = 2');
  await database.query('UPDATE items SET value = value WHERE id = 2');
  // The last event comes after what the handler's own writes would be.
  await until(() => written === 3);
  await database.query('INSERT INTO items VALUES (3, 0)');
  await rounds;
  expect(seen).toEqual([
    ['create', '1'],
    ['create', '2'],
    ['update', '2'],
    ['create', '3'],
  ]);
});
