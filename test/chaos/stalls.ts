/** How often to look, and what counts as getting no time; milliseconds. */
const INTERVAL = 20;
export const STALL = 100;

/** Tells when this process was not run for a while: frozen, or on a machine that has too much to do. */
export function watchForStalls(tell: (from: number, to: number) => void): () => void {
  let last = Date.now();
  const timer = setInterval(() => {
    const now = Date.now();
    if (now - last > INTERVAL + STALL) tell(last, now);
    last = now;
  }, INTERVAL).unref();
  return () => clearInterval(timer);
}
