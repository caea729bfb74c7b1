import type pg from 'pg';
import { expect, test } from 'vitest';
import { acknowledgeIn } from '../../src/capture/acknowledge-in.ts';
import { namesOf } from '../../src/schema/names.ts';

test('a read whose earlier transaction turns out to be committed meanwhile is not acknowledged a second time', async () => {
  const names = namesOf('test', 'postgres_input');
  // The row of the earlier transaction is gone with its chunk, so that the INSERT finds no conflict.
  const client = { query: async () => ({ rowCount: 1 }) } as unknown as pg.Client;
  const event = { seq: '1'.repeat(48), at: null, token: '7' };
  const acknowledge = (...isOut: boolean[]) =>
    acknowledgeIn(
      client,
      names,
      event,
      async () => {},
      () => isOut.shift()!,
    );
  await acknowledge(true, true);
  await expect(acknowledge(true, false)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
});
