import { afterAll, beforeAll, expect, test } from 'vitest';
import { SETTINGS } from '../chaos/pasts.ts';
import { run } from '../chaos/run.ts';
import { type Server, startServer } from '../support/server.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer({ settings: SETTINGS });
});
afterAll(() => server[Symbol.asyncDispose]());

test.each([1, 2])(
  'loses, repeats and reorders nothing, whatever dies (seed %i)',
  async (seed) => {
    const lease = { duration: 1000, renewInterval: 200, margin: 200, pollInterval: 50 };
    const steps: string[] = [];
    const { violations, counts } = await run({
      server,
      seed,
      seconds: 8,
      lease,
      tell: (step) => steps.push(step),
    });
    expect(Object.fromEntries(violations), steps.join('\n')).toEqual({});
    // It was no idle run.
    expect(counts['changes']).toBeGreaterThan(100);
    expect(counts['terms']).toBeGreaterThan(1);
  },
  300_000,
);
