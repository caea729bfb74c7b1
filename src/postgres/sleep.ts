import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';

/** A signal to which any number may listen at once: Node warns of a leak above ten. */
export function signalForMany(signal: AbortSignal): AbortSignal {
  setMaxListeners(0, signal);
  return signal;
}

/** Never aborts. */
export const NEVER = signalForMany(new AbortController().signal);

/** A pause of `ms` milliseconds that ends early, without an error, when `signal` aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  // Abortion is the only reason for which this rejects.
  await setTimeout(ms, undefined, { signal }).catch(() => {});
}
