import { readStatus } from '../node/status.ts';
import { readCatalog } from '../schema/catalog.ts';
import { install as installMissing, uninstall as uninstallAll } from '../schema/install.ts';
import { type Command, EXIT, inSession } from './command.ts';
import { coloured, plural, printJson, printRows, printable } from './output.ts';

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

export const uninstall: Command = {
  summary: 'remove everything that was installed for the input',
  details: `\
Triggers, functions, internal tables, and the changes that nobody has acknowledged. End the nodes before:
they would put it all back. While one of them is active, this refuses.`,
  options: { force: { type: 'boolean', help: 'also while a node is active' } },
  async run({ settings, names, values, io }) {
    const discarded = await inSession(settings, async (session) => {
      const { tables } = await readCatalog(session, names);
      const whole = [names.lockTable, names.logTable].every(({ name }) => tables.includes(name));
      const { lease, backlog } = whole ? await readStatus(session, names) : { lease: null, backlog: 0 };
      if (lease && !values.force) {
        throw new Error(`a node has been active since ${lease.acquiredAt}: end it first, or use --force`);
      }
      await uninstallAll(session, settings, names);
      return backlog;
    });
    if (values.json) printJson(io, { id: settings.id, discarded });
    else {
      const note = `${plural(discarded, 'change')} had not been acknowledged`;
      io.stdout.write(
        `removed ${printable(settings.id)}; ${discarded > 0 ? coloured(io.stdout, 'yellow', note) : note}\n`,
      );
    }
    return EXIT.ok;
  },
};
