import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { ReadsOut } from '../../src/capture/reads-out.ts';

const changeOf = (row: number): Change =>
  new Change(String(row), 'items', 'read', String(row), 'id', null, null, '', null);

const step = fc.oneof(
  { weight: 2, arbitrary: fc.record({ add: fc.nat(4) }) },
  { weight: 4, arbitrary: fc.constant({ takeNext: true }) },
  { weight: 2, arbitrary: fc.record({ take: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.record({ find: fc.nat(40) }) },
);

test('holds each event with its chunk until it is taken, in whichever order that is', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const out = new ReadsOut<number>();
      const expected = new Map<string, number>();
      let rows = 0;
      let chunks = 0;
      for (const each of steps) {
        if ('add' in each) {
          const changes = Array.from({ length: each.add }, () => changeOf(rows++));
          out.add(chunks, changes);
          for (const { sequence } of changes) expected.set(sequence!, chunks);
          chunks++;
        } else if ('find' in each) {
          const found = out.find(String(each.find));
          expect(found?.chunk).toBe(expected.get(String(each.find)));
          if (found) expect(found.change.sequence).toBe(String(each.find));
        } else {
          const [next = '0'] = expected.keys();
          const sequence = 'take' in each ? String(each.take) : next;
          expect(out.take(sequence)).toBe(expected.get(sequence) ?? null);
          expected.delete(sequence);
        }
        expect(out.isEmpty).toBe(expected.size === 0);
        const held = [...out].map(({ chunk, change }) => [change.sequence!, chunk] as const);
        expect(new Map(held)).toEqual(expected);
        expect(held).toHaveLength(expected.size);
      }
    }),
    { numRuns: 500 },
  );
});
