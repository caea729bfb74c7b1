import { expect, test } from 'vitest';
import { Snapshot } from '../../src/postgres/snapshot.ts';

test('sees transactions that had ended when it was taken', () => {
  const snapshot = new Snapshot('10:20:10,15');
  const seen = [3n, 9n, 10n, 11n, 15n, 19n, 20n, 21n].filter((xid) => snapshot.sees(xid));
  expect(seen).toEqual([3n, 9n, 11n, 19n]);
  expect([...snapshot.inProgress]).toEqual(['10', '15']);
  expect(snapshot.text).toBe('10:20:10,15');
});

test('sees everything begun before it when nothing was under way', () => {
  const snapshot = new Snapshot('18446744073709551610:18446744073709551610:');
  expect(snapshot.inProgress.size).toBe(0);
  expect(snapshot.sees(18446744073709551609n)).toBe(true);
  expect(snapshot.sees(18446744073709551610n)).toBe(false);
});
