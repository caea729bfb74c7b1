import { countParked } from '../capture/parked.ts';
import type { Catalog } from '../schema/catalog.ts';
import { byTable } from '../schema/existing.ts';
import { uninstall as removeAll } from '../schema/install.ts';
import { type Names, locationOf } from '../schema/names.ts';
import { isOriginal } from '../schema/steps.ts';
import { type Call, EXIT, command } from './command.ts';
import { type InputState, changesOf, isUnreadable, readState } from './input-state.ts';
import { givenInput, notInstalled, onInput } from './input.ts';
import type { Options } from './options.ts';
import { coloured, plural, printJson, printRows, printable } from './output.ts';

const OPTIONS = {
  'dry-run': { type: 'boolean', help: 'list what would be removed, and remove nothing' },
  yes: { type: 'boolean', short: 'y', help: 'also if changes are lost that nobody has acknowledged' },
  force: { type: 'boolean', help: 'also while a node is active' },
} as const satisfies Options;

export const uninstall = command({
  summary: 'remove everything that was installed for the input',
  details: `\
Removes triggers, functions and internal tables, whichever version of this package made them. End the nodes
before: they would put it all back. Refuses while a node is active, and if changes would be lost that nobody
has acknowledged.`,
  options: OPTIONS,
  async run(call) {
    const { values, io } = call;
    return onInput(givenInput(call), async ({ session, settings, names, catalog }) => {
      const { id } = settings;
      const objects = objectsOf(catalog, names);
      if (Object.values(objects).every((list) => list.length === 0)) {
        throw new Error(notInstalled(names));
      }
      const state = await readState({ session, names }, catalog.tables);
      const parked = catalog.tables.includes(names.parkedTable.name) ? await countParked(session, names) : 0;
      const objections = objectionsTo({ ...state, parked }, names, values);
      if (values['dry-run']) {
        if (values.json) printJson(io, { id, discarded: state.backlog, ...objects, objections });
        else printRows(io, [['input', id], ...rowsOf(objects, state, names), ...objections.map(refusal)]);
        return EXIT.ok;
      }
      if (objections.length > 0) throw new Error(objections.join('; '));
      await removeAll(session, settings, names, { mayLose: values.yes ?? false });
      if (values.json) printJson(io, { id, discarded: state.backlog });
      else {
        const note = `${changesOf(state, names)} had not been acknowledged`;
        const shown = state.backlog > 0 ? coloured(io, 'yellow', note) : note;
        io.stdout.write(`removed ${printable(id)}; ${shown}\n`);
      }
      return EXIT.ok;
    });
  },
});

interface InstalledObjects {
  readonly tables: readonly string[];
  readonly functions: readonly string[];
  readonly triggers: readonly { readonly table: string; readonly triggers: readonly string[] }[];
}

/** The objects that an uninstallation removes. The original's triggers are not among them. */
function objectsOf({ tables, functions, triggers }: Catalog, names: Names): InstalledObjects {
  const own = byTable(triggers.filter((trigger) => !isOriginal(trigger, names)));
  return {
    tables,
    functions: functions.map(({ name }) => name),
    triggers: [...own.values()].map((ofTable) => ({
      table: locationOf(ofTable[0]!.schema, ofTable[0]!.table),
      triggers: ofTable.map(({ trigger }) => trigger),
    })),
  };
}

/** The reasons not to remove the input that no option has overruled. */
function objectionsTo(
  state: InputState & { readonly parked: number },
  names: Names,
  { force, yes }: Call<typeof OPTIONS>['values'],
): string[] {
  const objections: string[] = [];
  if (state.lease && !force) {
    objections.push(`a node has been active since ${state.lease.acquiredAt}: end it first, or use --force`);
  }
  if (isUnreadable(state, names.lockTable) && !force) {
    objections.push(
      `this version can't read from ${names.lockTable.name} whether a node is active: end all nodes, and use --force`,
    );
  }
  if (state.backlog > 0 && !yes) {
    objections.push(
      `${changesOf(state, names)} would be lost that nobody has acknowledged: let a node take them, or use --yes`,
    );
  }
  if (state.parked > 0 && !yes) {
    objections.push(
      `${plural(state.parked, 'parked event')} would be lost: redrive or discard them, or use --yes`,
    );
  }
  return objections;
}

type Row = readonly [string, string];

const rowsOf = (
  { tables, functions, triggers }: InstalledObjects,
  state: InputState,
  names: Names,
): Row[] => [
  ...tables.map((name): Row => [
    'table',
    name === names.logTable.name ? `${name}: ${changesOf(state, names)}` : name,
  ]),
  ...functions.map((name): Row => ['function', name]),
  ...triggers.map(({ table, triggers }): Row => ['triggers', `of ${table}: ${triggers.join(', ')}`]),
];

const refusal = (objection: string): Row => ['refused', objection];
