/** What the oracle asks of events. */
import type { ChangeEvent } from '../../src/index.ts';

/** A sequence is a number, and the time after it in microseconds. Numbers rise within a history, times need not. */
const STAMP_DIGITS = 16;
const numberOf = (sequence: string) => BigInt(sequence.slice(0, -STAMP_DIGITS));
export const bySize = (a: string, b: string) => (numberOf(a) < numberOf(b) ? -1 : 1);

export const isTruncation = ({ operation, id, key }: ChangeEvent): boolean =>
  operation === 'delete' && id === '*' && key === null;
