import type { Contestant } from '../contestant.ts';

/** The baseline: no trigger, nobody who listens. */
export const none: Contestant = {
  name: 'no trigger',
  by: 'nothing',
  durable: false,
  install: async () => {},
  consume: async () => ({ stop: async () => {} }),
};
