import type { Session } from '../postgres/session.ts';
import { readCatalog } from '../schema/catalog.ts';
import { type InstalledInput, installedInputs } from '../schema/inputs.ts';
import { EXIT, command } from './command.ts';
import { OLD, ageOf, changesOf, isUnreadable, readStateIfAllowed } from './input-state.ts';
import { givenInput, inSession, refuseInputOptions } from './input.ts';
import { coloured, duration, printJson, printTable, printable } from './output.ts';

export const list = command({
  summary: 'tell of every input of the database who is active and what waits',
  details: `\
Finds the inputs of every internal schema, whichever version installed them. It takes no --name, and no other
option that describes an input. Exit code 3: an input has changes that are older than a minute, and no node is
active.`,
  options: {},
  ownInput: true,
  async run(call) {
    const { values, io } = call;
    refuseInputOptions(
      values,
      (option) => `list tells of every input: ${option} describes one; status --name tells of one`,
    );
    const { settings } = givenInput(call, 'list');
    const reports = await inSession(settings, async (session) => {
      const all: Report[] = [];
      for (const input of await installedInputs(session)) all.push(await reportOn(session, input));
      return all;
    });
    const abandoned = reports.filter(isAbandoned).map(({ name }) => name);
    if (values.json) printJson(io, { inputs: reports.map(jsonOf) });
    else if (reports.length === 0) io.stdout.write('no input is installed in this database\n');
    else {
      printTable(io, HEADER, reports.map(rowOf));
      if (abandoned.length > 0) {
        const warning = `no node is active that takes the changes of ${abandoned.join(', ')}`;
        io.stdout.write(`${coloured(io, 'red', printable(warning))}\n`);
      }
    }
    return abandoned.length === 0 ? EXIT.ok : EXIT.problems;
  },
});

/** `state` is null if the role in use may not read the input's tables. */
async function reportOn(session: Session, { name, names }: InstalledInput) {
  const { version, tables } = await readCatalog(session, names);
  const state = await readStateIfAllowed({ session, names }, tables);
  return {
    name,
    names,
    version,
    state,
    isLeaseKnown: state !== null && !isUnreadable(state, names.lockTable),
    isBacklogKnown:
      state !== null && tables.includes(names.logTable.name) && !isUnreadable(state, names.logTable),
    oldestChangeAge: state && (await ageOf(session, state.oldestChangeAt)),
  };
}

type Report = Awaited<ReturnType<typeof reportOn>>;

const isAbandoned = ({ state, isLeaseKnown, oldestChangeAge }: Report): boolean =>
  isLeaseKnown && state?.lease === null && (oldestChangeAge ?? 0) > OLD;

/** What can't be read is null; `readable` tells a lease that nobody holds from one that can't be read. */
const jsonOf = ({ name, names, version, state, isLeaseKnown, isBacklogKnown, oldestChangeAge }: Report) => ({
  id: names.id,
  name,
  internalSchema: names.schema,
  version,
  readable: isLeaseKnown && isBacklogKnown,
  lease: state?.lease ?? null,
  backlog: isBacklogKnown ? state!.backlog : null,
  oldestChangeAt: state?.oldestChangeAt ?? null,
  oldestChangeAge,
});

const HEADER = ['INPUT', 'SCHEMA', 'VERSION', 'ACTIVE NODE', 'BACKLOG', 'OLDEST CHANGE'];

function rowOf({ name, names, version, state, isLeaseKnown, isBacklogKnown, oldestChangeAge }: Report) {
  const unknown = 'not readable';
  return [
    name,
    names.schema,
    version === 0 ? 'older than 1' : `${version}`,
    isLeaseKnown ? (state!.lease?.holder ?? 'none') : unknown,
    isBacklogKnown ? changesOf(state!, names) : unknown,
    isBacklogKnown ? (oldestChangeAge === null ? '' : `${duration(oldestChangeAge)} ago`) : unknown,
  ];
}
