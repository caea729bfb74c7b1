/** The connections with which an input was made, in a process that does nothing with it. */
import { expect, onTestFinished, test } from 'vitest';
import { createDatabase } from '../support/database.ts';
import { spawnNode } from '../support/processes.ts';

test.each([
  ['leave', 'notify', 2],
  ['leave', 'poll', 1],
  ['close', 'notify', 0],
  ['close', 'poll', 0],
])(
  'the process %ss its input, to be woken by %s, and ends at once, while so many of its connections are open: %i',
  async (ending, wakeup, open) => {
    const database = await createDatabase();
    const idle = spawnNode(new URL('../support/idle-node.ts', import.meta.url), {
      args: [database.url, wakeup, ending],
    });
    onTestFinished(() => idle[Symbol.asyncDispose]());
    expect(await idle.exited).toEqual({ code: 0, signal: null });
    expect(idle.output()).toBe(`${open}\n`);
  },
);
