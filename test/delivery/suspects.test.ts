import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { Ticket } from '../../src/delivery/line.ts';
import { Suspects } from '../../src/delivery/suspects.ts';
import { FORGETFUL } from '../support/served-term.ts';

test('counts the deaths of a group when the end of the group before is written, and hands the group out then', async () => {
  const log: string[] = [];
  let write = (): void => {};
  const suspects = new Suspects({
    concurrency: 1,
    first: 0,
    failures: {
      ...FORGETFUL,
      suspect: async (changes) => void log.push(`counted ${changes.map(({ sequence }) => sequence).join()}`),
    },
    written: () => new Promise((resolve) => (write = resolve)),
    ready: () => log.push('ready'),
    fail: (error) => log.push(String(error)),
  });
  const tickets = ['7', '8'].map(
    (sequence) =>
      new Ticket(
        new Change(sequence, 'items', 'update', '1', 'id', '2026-01-31T12:00:00Z', '1', '', null),
        null,
        null,
        null,
      ),
  );
  for (const ticket of tickets) expect(suspects.keep(ticket, 3)).toBe(true);
  for (const [n, ticket] of tickets.entries()) {
    suspects.begin();
    await setImmediate();
    expect(suspects.take()).toBeNull();
    expect(log).toHaveLength(2 * n);
    write();
    await setImmediate();
    expect(suspects.take()).toBe(ticket);
    suspects.end(ticket);
  }
  expect(log).toEqual(['counted 7', 'ready', 'counted 8', 'ready']);
});
