import { setTimeout } from 'node:timers/promises';

/** A pause of `ms` milliseconds that ends early, without an error, when `signal` aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  // Abortion is the only reason for which this rejects.
  await setTimeout(ms, undefined, { signal }).catch(() => {});
}
