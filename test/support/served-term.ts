import pg from 'pg';
import type { Failures } from '../../src/capture/failures.ts';
import { systemClock } from '../../src/delivery/clock.ts';
import type { ServedTerm } from '../../src/delivery/consumer.ts';
import { RowDecoder } from '../../src/delivery/row-decoder.ts';

/** Failures that nobody keeps. */
export const FORGETFUL: Failures = {
  load: async () => [],
  fail: async () => {},
  park: async () => true,
  suspect: async () => {},
  clear: async () => {},
  forget: async () => {},
};

/** A term as a consumer sees it. */
export const servedTerm = (parts: Partial<ServedTerm> = {}): ServedTerm => ({
  trigger: 'test',
  clock: systemClock,
  decoder: new RowDecoder(pg.types),
  fencingToken: '1',
  mayHandOut: () => true,
  acknowledge: () => {},
  failures: () => FORGETFUL,
  pending: () => new Set(),
  written: async () => {},
  isGone: async () => true,
  isLeaseHeld: async () => true,
  readAgain: () => {},
  dropRead: () => {},
  notify: () => {},
  fail: (error) => {
    throw error;
  },
  ...parts,
});
