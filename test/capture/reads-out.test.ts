import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { ReadsOut } from '../../src/capture/reads-out.ts';

const changeOf = (row: number): Change =>
  new Change(String(row), 'items', 'read', String(row), 'id', null, null, '', null);

type Step = { add: number } | { takeNext: true } | { take: number } | { find: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ add: fc.nat(4) }) },
  { weight: 4, arbitrary: fc.constant({ takeNext: true as const }) },
  { weight: 2, arbitrary: fc.record({ take: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.record({ find: fc.nat(40) }) },
);

/** What the simplest thing that could hold the events says to a step, or what is tested. */
type Holder = {
  add(chunk: number, changes: readonly Change[]): void;
  take(sequence: string): number | null;
  find(sequence: string): { chunk: number; change: Change } | null;
  readonly isEmpty: boolean;
  [Symbol.iterator](): Iterator<{ chunk: number; change: Change }>;
};

class Plain implements Holder {
  readonly held = new Map<string, { chunk: number; change: Change }>();

  add(chunk: number, changes: readonly Change[]): void {
    for (const change of changes) this.held.set(change.sequence!, { chunk, change });
  }

  take(sequence: string): number | null {
    const chunk = this.held.get(sequence)?.chunk ?? null;
    this.held.delete(sequence);
    return chunk;
  }

  find = (sequence: string) => this.held.get(sequence) ?? null;

  get isEmpty(): boolean {
    return this.held.size === 0;
  }

  [Symbol.iterator] = () => this.held.values();
}

/** What the holder answers to each step, and what it holds then. */
function answers(out: Holder, steps: readonly Step[]): unknown[] {
  const waiting: string[] = [];
  let rows = 0;
  return steps.map((each, chunk) => {
    let answer: unknown;
    if ('add' in each) {
      const changes = Array.from({ length: each.add }, () => changeOf(rows++));
      waiting.push(...changes.map(({ sequence }) => sequence!));
      out.add(chunk, changes);
    } else if ('find' in each) {
      answer = out.find(String(each.find));
    } else {
      const sequence = 'take' in each ? String(each.take) : (waiting[0] ?? '0');
      answer = out.take(sequence);
      if (waiting.includes(sequence)) waiting.splice(waiting.indexOf(sequence), 1);
    }
    const held = [...out].toSorted((a, b) => Number(a.change.sequence) - Number(b.change.sequence));
    return [answer, out.isEmpty, held];
  });
}

test('holds each event with its chunk until it is taken, in whichever order that is', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      expect(answers(new ReadsOut<number>(), steps)).toEqual(answers(new Plain(), steps));
    }),
    { numRuns: 500 },
  );
});
