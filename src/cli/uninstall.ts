import { readStatus } from '../node/status.ts';
import { readCatalog } from '../schema/catalog.ts';
import { uninstall as uninstallAll } from '../schema/install.ts';
import { EXIT, command } from './command.ts';
import { givenInput, inSession } from './input.ts';
import { coloured, plural, printJson, printable } from './output.ts';

export const uninstall = command({
  summary: 'remove everything that was installed for the input',
  details: `\
Triggers, functions, internal tables, and the changes that nobody has acknowledged. End the nodes before:
they would put it all back. While one of them is active, this refuses.`,
  options: { force: { type: 'boolean', help: 'also while a node is active' } },
  async run(call) {
    const { values, io } = call;
    const input = givenInput(call);
    const discarded = await inSession(input, async ({ session, settings, names }) => {
      const { tables } = await readCatalog(session, names);
      const whole = [names.lockTable, names.logTable].every(({ name }) => tables.includes(name));
      const { lease, backlog } = whole ? await readStatus(session, names) : { lease: null, backlog: 0 };
      if (lease && !values.force) {
        throw new Error(`a node has been active since ${lease.acquiredAt}: end it first, or use --force`);
      }
      await uninstallAll(session, settings, names);
      return backlog;
    });
    if (values.json) printJson(io, { id: input.settings.id, discarded });
    else {
      const note = `${plural(discarded, 'change')} had not been acknowledged`;
      io.stdout.write(
        `removed ${printable(input.settings.id)}; ${discarded > 0 ? coloured(io.stdout, 'yellow', note) : note}\n`,
      );
    }
    return EXIT.ok;
  },
});
