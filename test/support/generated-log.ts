/** For property tests of what keeps the order: what statements log, in which order it may arrive, and which change has to wait for which. */
import fc from 'fast-check';
import { Change } from '../../src/capture/change.ts';

export interface Row {
  readonly op: 'create' | 'update' | 'delete';
  readonly id: string;
  readonly location: string;
  /** Changes of one statement have one. */
  readonly statement: number;
}

/** `after`: the text of the row, which gives the change its weight. */
export const changeOf = (
  { op, id, location, statement }: Row,
  n: number,
  after: string | null = null,
): Change =>
  new Change(
    String((n + 1) * 1000),
    location,
    op,
    id,
    id === '*' ? null : 'id',
    `at ${statement}`,
    `${statement}`,
    '',
    after === null ? null : { before: null, after, shape: null, origin: null, context: null },
  );

const row = fc.record({
  op: fc.constantFrom('create' as const, 'update' as const, 'delete' as const),
  id: fc.constantFrom('1', '2', '3', '4', '5'),
  location: fc.constantFrom('a', 'b'),
});
const truncation = fc
  .constantFrom('a', 'b')
  .map((location) => ({ op: 'delete' as const, id: '*', location }));
/** DELETEs of old keys, then the new ones. */
const keyChange = fc.constantFrom('a', 'b').chain((location) =>
  fc.uniqueArray(fc.constantFrom('1', '2', '3', '4', '5'), { minLength: 2, maxLength: 4 }).map((ids) =>
    ids.map((id, i) => ({
      op: i < ids.length / 2 ? ('delete' as const) : ('create' as const),
      id,
      location,
    })),
  ),
);
/** The rows that are logged, in the order of their sequences. */
export const loggedRows: fc.Arbitrary<Row[]> = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: row.map((one) => [one]) },
      { weight: 1, arbitrary: truncation.map((one) => [one]) },
      { weight: 2, arbitrary: keyChange },
    ),
    { minLength: 1, maxLength: 60 },
  )
  .map((statements) =>
    statements.flatMap((logged, statement) => logged.map((one) => ({ ...one, statement }))),
  );

/** What has to be over before a change is handed out. */
export function isBefore(one: Change, other: Change): boolean {
  if (BigInt(one.sequence!) >= BigInt(other.sequence!) || one.location !== other.location) return false;
  const isKeyChange =
    one.transaction === other.transaction && one.operation === 'delete' && other.operation !== 'delete';
  return one.id === '*' || other.id === '*' || one.id === other.id || isKeyChange;
}

function grouped(log: readonly Change[]): Map<string | null, Change[]> {
  const groups = new Map<string | null, Change[]>();
  for (const one of log) groups.set(one.transaction, [...(groups.get(one.transaction) ?? []), one]);
  return groups;
}

/** Transactions end in any order, as long as they need not wait for each other: of those that come first, any one arrives next. */
export function inArrival(log: readonly Change[], dice: () => number): Change[] {
  const statementsLeft = [...grouped(log).values()];
  const arrival: Change[] = [];
  while (statementsLeft.length > 0) {
    const n = dice() % Math.min(3, statementsLeft.length);
    const isFree = (candidate: readonly Change[], i: number) =>
      !statementsLeft
        .slice(0, i)
        .some((earlier) => earlier.some((one) => candidate.some((other) => isBefore(one, other))));
    const chosen = isFree(statementsLeft[n]!, n) ? n : 0;
    arrival.push(...statementsLeft.splice(chosen, 1)[0]!);
  }
  return arrival;
}

/** The moves of a model, from 0 to 99: the same for the same seed, which fast-check tells of a run that fails. */
export function diceOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state % 100;
  };
}
