import { expect, test } from 'vitest';
import type { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import type { Acknowledger } from '../../src/capture/acknowledger.ts';
import { SourcesAcknowledger } from '../../src/capture/sources.ts';

test('whether a read is gone is known when no caller has a transaction open any more', async () => {
  let isCommitted = false;
  const log = {
    isGone: async () => false,
    callersEnded: async () => void (isCommitted = true),
  } as Partial<Acknowledgements> as Acknowledgements;
  const reads = { isGone: async () => isCommitted } as Partial<Acknowledger> as Acknowledger;
  const sources = new SourcesAcknowledger(log, reads);
  expect(await sources.isGone('1000')).toBe(false);
  // The log's row is locked by an open transaction, which its own question waits for.
  expect(isCommitted).toBe(false);
  expect(await sources.isGone('1'.repeat(48))).toBe(true);
});
