import { listParked } from '../capture/parked.ts';
import { shapesFor } from '../capture/row-shapes.ts';
import { eventOf } from '../delivery/event.ts';
import { RowDecoder } from '../delivery/row-decoder.ts';
import { EXIT, command } from './command.ts';
import { givenInput, onInstalledInput } from './input.ts';
import { UsageError, type Options } from './options.ts';
import { printJson, printTable } from './output.ts';

const OPTIONS = {
  limit: { type: 'string', value: 'N', help: 'how many at most; default: 100' },
  after: { type: 'string', value: 'SEQUENCE', help: 'only those after this one; default: from the first' },
} as const satisfies Options;

const HEADER = ['SEQUENCE', 'CHANGE', 'ATTEMPTS', 'PARKED AT', 'ERROR'];

export const parked = command({
  summary: 'list the events that were parked since they failed',
  details: `\
Their changes are out of the log and kept until somebody runs redrive or discard.`,
  options: OPTIONS,
  async run(call) {
    const { values, io } = call;
    const limit = Number(values.limit ?? 100);
    if (!Number.isSafeInteger(limit) || limit < 1)
      throw new UsageError('--limit must be a whole number, from 1 on');
    if (values.after !== undefined && !/^[1-9]\d*$/.test(values.after))
      throw new UsageError('--after must be the sequence of an event');
    return onInstalledInput(givenInput(call), async ({ session, settings, names }) => {
      const decoder = new RowDecoder(settings.types);
      const found = await listParked(session, names, shapesFor(settings, session, names), {
        limit,
        after: values.after ?? null,
      });
      const events = found.map(({ change, ...details }) => ({
        ...eventOf(change, settings.id, null, decoder),
        ...details,
      }));
      if (values.json) printJson(io, { parked: events });
      else if (events.length === 0) io.stdout.write('no event is parked\n');
      else {
        printTable(
          io,
          HEADER,
          events.map(({ sequence, operation, location, id, attempts, parkedAt, error }) => [
            sequence!,
            `${operation} ${location} ${id}`,
            String(attempts),
            parkedAt,
            error.split('\n', 1)[0]!,
          ]),
        );
      }
      return EXIT.ok;
    });
  },
});
