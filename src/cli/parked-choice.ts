/** The commands that do something to parked events: which of them, and what is told afterwards. */
import type { Session } from '../postgres/session.ts';
import { parseSequence } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type Call, EXIT, type ExitCode } from './command.ts';
import { givenInput, onInstalledInput } from './input.ts';
import { UsageError, type Options } from './options.ts';
import { plural, printJson } from './output.ts';

export const CHOICE = {
  sequences: { type: 'string', multiple: true, value: 'LIST', help: 'the sequences of parked events' },
  all: { type: 'boolean', help: 'every parked event' },
} as const satisfies Options;

/** `done`: the verb of what was done, as a participle. */
export function onChosen(
  call: Call<typeof CHOICE>,
  done: string,
  task: (session: Session, names: Names, which: readonly string[] | 'all') => Promise<number>,
): Promise<ExitCode> {
  const { values, io } = call;
  const { sequences = [], all = false } = values;
  if (all === sequences.length > 0) throw new UsageError('give either --sequences or --all');
  const bad = sequences.find((sequence) => parseSequence(sequence) === null);
  if (bad !== undefined) throw new UsageError(`--sequences: ${bad} is not the sequence of an event`);
  return onInstalledInput(givenInput(call), async ({ session, names }) => {
    const count = await task(session, names, all ? 'all' : sequences);
    if (values.json) printJson(io, { [done]: count });
    else io.stdout.write(`${done} ${plural(count, 'event')}\n`);
    // Some of those that were named are not parked.
    return all || count === new Set(sequences).size ? EXIT.ok : EXIT.problems;
  });
}
