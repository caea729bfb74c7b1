/**
 * Names the rows that a backfill reads of a table by their places. A row that is read again from the table's beginning, since its place means something
 * else now, has another sequence.
 *
 * The oid is the one under which the table was asked for: in a restored database, the one that it has now may be that of another table of the
 * backfill before.
 *
 * Integer keys are counted from a number that is as good as random, so that no two tables of a backfill come near each other: to hash each key would cost
 * more than to read the row.
 */
import { hash } from 'node:crypto';
import { BACKFILL_DIGITS, ROW_DIGITS } from '../schema/log-layout.ts';
import type { Job } from './backfill-store.ts';
import type { BackfillTable } from './backfill-table.ts';

/** So many digits are an exact number in JavaScript, and so is the sum of two such numbers. */
const EXACT_DIGITS = 15;
const EXACT = 10 ** EXACT_DIGITS;

/** Returns what gives the row at a place its sequence. */
export function readSequences(
  { backfill, relation, keyColumns }: Pick<Job, 'backfill' | 'relation' | 'keyColumns'>,
  { isByInteger }: Pick<BackfillTable, 'isByInteger'>,
): (place: readonly string[]) => string {
  const prefix = backfill.padStart(BACKFILL_DIGITS, '0');
  const generation = digestOf(keyColumns!);
  const name = (number: bigint) => prefix + String(number).padStart(ROW_DIGITS, '0');
  const hashed = (place: readonly string[]) =>
    BigInt(`0x${digestOf(JSON.stringify([relation, generation, place]))}`);
  if (!isByInteger) return (place) => name(hashed(place));
  // No key is below it.
  const origin = hashed([]) + 2n ** 63n;
  // Most keys change its last digits alone, and a number is added sooner than a bigint.
  const last = Number(origin % BigInt(EXACT));
  const [first, firstAndOne] = [0n, 1n].map((carry) =>
    name(origin + carry * BigInt(EXACT)).slice(0, -EXACT_DIGITS),
  );
  return ([key]) => {
    const sum = last + Number(key);
    if (key!.length > EXACT_DIGITS || sum < 0) return name(origin + BigInt(key!));
    return sum < EXACT
      ? first + String(sum).padStart(EXACT_DIGITS, '0')
      : firstAndOne + String(sum - EXACT).padStart(EXACT_DIGITS, '0');
  };
}

const digestOf = (text: string): string => hash('sha256', text).slice(0, 24);
