import type { Contestant } from '../contestant.ts';
import { ours } from './ours.ts';

/** Our triggers alone, nobody reading. */
export const oursUnread: Contestant = {
  ...ours,
  name: 'ours, nobody reading',
  by: 'nothing',
  consume: async () => ({ stop: async () => {} }),
};
