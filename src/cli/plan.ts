import { grantTo } from '../schema/grants.ts';
import { plan as planSteps } from '../schema/plan.ts';
import type { Step } from '../schema/steps.ts';
import { EXIT, command } from './command.ts';
import { givenInput, inSession } from './input.ts';
import { printJson } from './output.ts';

export const plan = command({
  summary: 'print the SQL that install would run, and run nothing',
  details: `\
For a DBA: plan ... | psql, as a role that owns the tables, or as a superuser. The plan leaves out what is
in place already: psql stops at the first step that fails, and a new plan goes on from there. One transaction
per table, each under the lock timeout. --json gives the SQL without psql's own commands, for other clients. Nodes then run with the option install: false, as a role with the rights that --grant-to gives.`,
  options: {
    'grant-to': {
      type: 'string',
      value: 'ROLE',
      help: 'add the rights that a node needs, and no more, for this role',
    },
  },
  async run(call) {
    const { values, io } = call;
    return inSession(givenInput(call), async ({ session, settings, names }) => {
      const { steps, barredSteps, watched } = await planSteps(session, settings, names);
      const all = [...inOrder(steps, barredSteps)];
      if (values['grant-to'] !== undefined) all.push({ sql: grantTo(values['grant-to'], names) });
      if (values.json)
        printJson(io, { id: settings.id, watched, steps: all.map(({ table, sql }) => ({ table, sql })) });
      else io.stdout.write(script(all, settings.lockTimeout));
      return EXIT.ok;
    });
  },
});

/** A DBA may run the barred steps too. The functions that are left over go last, when no trigger uses them any more. */
const inOrder = (steps: readonly Step[], barredSteps: readonly Step[]): Step[] => [
  ...steps.filter(({ essential }) => essential),
  ...barredSteps,
  ...steps.filter(({ essential }) => !essential),
];

/** By default psql goes on after a step that failed, and ends with exit code 0. */
const STOP_AT_ERROR = '\\set ON_ERROR_STOP on';

function script(steps: readonly Step[], lockTimeout: number): string {
  if (steps.length === 0) return '-- Everything is in place: there is nothing to do.\n';
  const transactions = steps.map(({ table, sql }) =>
    [
      ...(table === undefined ? [] : [`-- ${table.replaceAll(/[\r\n]/g, ' ')}`]),
      [
        'BEGIN',
        `SET LOCAL lock_timeout = ${lockTimeout}`,
        'SET LOCAL search_path = pg_catalog',
        ...sql,
        'COMMIT',
      ].join(';\n'),
    ].join('\n'),
  );
  const statements = ["SET client_encoding = 'UTF8'", ...transactions].map((part) => `${part};\n`).join('\n');
  return `${STOP_AT_ERROR}\n${statements}`;
}
