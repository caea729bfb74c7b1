import type pg from 'pg';
import { expect, test } from 'vitest';
import { acknowledgeIn } from '../../src/capture/acknowledge-in.ts';
import { namesOf } from '../../src/schema/names.ts';

function setup(isolation: string) {
  const names = namesOf('test', 'postgres_input');
  // The row of the earlier transaction is gone with its chunk, so that the INSERT finds no conflict.
  const client = { query: async () => ({ rows: [{ isolation }] }) } as unknown as pg.Client;
  const event = { seq: '1'.repeat(48), at: null, token: '7' };
  return (isOut: boolean[], isHeld: boolean) =>
    acknowledgeIn(client, names, event, async () => {}, {
      noteRead: () => isOut.shift()!,
      isLeaseHeld: async () => isHeld,
    });
}

test('a read whose earlier transaction turns out to be committed meanwhile is not acknowledged a second time', async () => {
  const acknowledge = setup('read committed');
  await acknowledge([true, true], true);
  await expect(acknowledge([true, false], true)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
});

test('a transaction whose snapshot may be older than a takeover acknowledges a read if the lease is held still', async () => {
  await setup('read committed')([true, true], false);
  for (const isolation of ['repeatable read', 'serializable']) {
    await setup(isolation)([true, true], true);
    await expect(setup(isolation)([true, true], false)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  }
});
