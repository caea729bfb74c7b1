import { install as installMissing } from '../schema/install.ts';
import { type Command, EXIT, inSession } from './command.ts';
import { plural, printJson, printRows } from './output.ts';

export const install: Command = {
  summary: 'put the triggers and the internal tables in place',
  details: `\
Nodes do this by themselves when they start, unless their option install is false. Changes are kept from
then on, until a node takes them. Exit code 3: some tables had to be left out, and why is told.`,
  options: {},
  async run({ settings, names, values, io }) {
    const { watched, unwatchable, pending } = await inSession(settings, (session) =>
      installMissing(session, settings, names),
    );
    if (values.json) printJson(io, { id: settings.id, watched, unwatchable, pending });
    else {
      printRows(io, [
        [
          'watched',
          `${plural(watched.length, 'table')}${watched.length > 0 ? ': ' : ''}${watched.join(', ')}`,
        ],
        ...unwatchable.map(({ table, reason }) => ['left out', `${table}: ${reason}`] as const),
        ...pending.map((table) => ['left out', `${table}: it stayed locked, run install again`] as const),
      ]);
    }
    return unwatchable.length + pending.length === 0 ? EXIT.ok : EXIT.problems;
  },
};
