import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readSequences } from '../../src/capture/read-sequences.ts';
import { isReadSequence } from '../../src/schema/log-layout.ts';

const key = fc.oneof(
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.bigInt(-1000n, 1000n),
  fc.bigInt(10n ** 15n - 1000n, 10n ** 15n + 1000n),
  fc.bigInt(-(10n ** 15n) - 1000n, 1000n - 10n ** 15n),
);
const table = fc.record({
  backfill: fc.bigInt(1n, 2n ** 63n - 1n).map(String),
  relation: fc.nat().map(String),
  keyColumns: fc.constant('id'),
});

test('sequences of integer keys are as far apart as the keys', () => {
  fc.assert(
    fc.property(table, key, key, (job, one, other) => {
      const sequenceOf = readSequences(job, { isByInteger: true });
      const [first, second] = [sequenceOf([String(one)]), sequenceOf([String(other)])];
      expect(isReadSequence(first)).toBe(true);
      expect(BigInt(first) - BigInt(second)).toBe(one - other);
    }),
    { numRuns: 2000 },
  );
});

test('sequences of other keys differ by the place, the table and what the place means', () => {
  const job = { backfill: '1', relation: '2' };
  const named = (from: typeof job, keyColumns: string, ...place: string[]) =>
    readSequences({ ...from, keyColumns }, { isByInteger: false })(place);
  const sequences = [
    named(job, 'a', '1', '2'),
    named(job, 'a', '12', ''),
    named(job, 'b', '1', '2'),
    named({ ...job, relation: '3' }, 'a', '1', '2'),
    named({ ...job, backfill: '4' }, 'a', '1', '2'),
  ];
  expect(new Set(sequences).size).toBe(sequences.length);
  expect(sequences.every(isReadSequence)).toBe(true);
  expect(named(job, 'a', '1', '2')).toBe(sequences[0]);
});
