import { nothingInstalled } from '../node/status.ts';
import { EXIT, command } from './command.ts';
import { type InputState, ageOf, changesOf, isUnreadable, planOrRefusal, readState } from './input-state.ts';
import { type ConnectedInput, givenInput, onInput } from './input.ts';
import { duration, printJson, printRows, tableList } from './output.ts';
import { warningsOf } from './remarks.ts';
import { watch } from './status-watch.ts';

export const status = command({
  summary: 'tell who is active, what waits, and which tables are watched',
  details: `\
Tables that are pending lack a trigger, or have an outdated one; the next node to start, or install, sees to
them. With options that differ from those of the installation it tells what an installation with them would
watch. Exit code 3: something could not be read, since another version of this package installed the input.

With --watch it looks every second, until Ctrl-C, SIGTERM, or its reader hangs up: who is active, what waits
and for how long, how many events are parked, and how many rows are written to the change log (up to 50 changes of a statement are
a row each, more of them are packed, 100 a row). Elsewhere than on a terminal, or with --json, each look is a
line of JSON.`,
  options: { watch: { type: 'boolean', help: 'look again every second' } },
  async run(call) {
    const { values, io } = call;
    if (values.watch) {
      await watch(givenInput(call), call);
      return EXIT.ok;
    }
    return onInput(givenInput(call), async (input) => {
      const report = await reportOn(input);
      if (values.json) printJson(io, jsonOf(report));
      else printRows(io, rowsOf(report, input));
      return report.problems.length === 0 ? EXIT.ok : EXIT.problems;
    });
  },
});

async function reportOn(input: ConnectedInput) {
  const { session, settings, names, catalog, differences } = input;
  const { tables } = catalog;
  const missing = [names.lockTable, names.logTable].filter(({ name }) => !tables.includes(name));
  if (missing.length === 2) throw nothingInstalled();
  const state = await readState(input, tables);
  const { plan, refusal } = await planOrRefusal(input);
  return {
    id: settings.id,
    state,
    oldestChangeAge: await ageOf(session, state.oldestChangeAt),
    watched: plan?.watched ?? null,
    unwatchable: plan?.unwatchable ?? null,
    remarks: plan?.remarks ?? {},
    pending: plan && [...new Set(plan.steps.flatMap((step) => step.table ?? []))],
    problems: [
      ...missing.map(({ name }) => `${name} does not exist`),
      ...state.unreadable.map(({ table, reason }) => `${table} can't be read: ${reason}`),
      ...(refusal === null ? [] : [refusal]),
    ],
    differences,
  };
}

type Report = Awaited<ReturnType<typeof reportOn>>;

/** `problems` and `differences` are there only if there are any. */
const jsonOf = ({ id, state, remarks, problems, differences, ...rest }: Report) => {
  const { lease, backlog, oldestChangeAt } = state;
  return {
    id,
    lease,
    backlog,
    oldestChangeAt,
    ...rest,
    ...remarks,
    ...(problems.length > 0 && { problems }),
    ...(differences.length > 0 && { differences }),
  };
};

const rowsOf = (
  { id, state, oldestChangeAge, watched, unwatchable, pending, remarks, problems }: Report,
  { names }: ConnectedInput,
): (readonly [string, string])[] => [
  ['input', id],
  ['active', isUnreadable(state, names.lockTable) ? 'not known' : holderOf(state)],
  ['backlog', changesOf(state, names)],
  ...(oldestChangeAge === null
    ? []
    : [['oldest change', `${duration(oldestChangeAge)} ago, at ${state.oldestChangeAt}`] as const]),
  ['watched', watched ? tableList(watched) : 'not known'],
  ...(unwatchable ?? []).map(({ table, reason }) => ['not watched', `${table}: ${reason}`] as const),
  ...(pending ?? []).map((table) => ['pending', table] as const),
  ...warningsOf(remarks).map((warning) => ['warning', warning] as const),
  ...problems.map((problem) => ['problem', problem] as const),
];

const holderOf = ({ lease }: InputState): string =>
  lease ? `node ${lease.holder} since ${lease.acquiredAt}, fencing token ${lease.fencingToken}` : 'no node';
