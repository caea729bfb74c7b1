import { grantTo } from '../schema/grants.ts';
import { plan as planSteps } from '../schema/plan.ts';
import type { Step } from '../schema/steps.ts';
import { type Command, EXIT, inSession } from './command.ts';
import { printJson } from './output.ts';

export const plan: Command = {
  summary: 'print the SQL that install would run, and run nothing',
  details: `\
For a DBA: plan ... | psql, as a role that owns the tables, or as a superuser. What is in place already
is left out, so a plan that stopped at a lock can be made again. One transaction per table, each under the
lock timeout. Nodes then run with the option install: false, as a role with the rights that --grant-to gives.`,
  options: {
    'grant-to': {
      type: 'string',
      value: 'ROLE',
      help: 'add the rights that a node needs, and no more, for this role',
    },
  },
  async run({ settings, names, values, io }) {
    const { steps, barredSteps, watched } = await inSession(settings, (session) =>
      planSteps(session, settings, names),
    );
    // A DBA is barred from nothing. What is left over goes last, when nothing uses it any more.
    const [internal, rest] = [
      steps.filter((step) => step.essential),
      steps.filter((step) => !step.essential),
    ];
    const all: Step[] = [...internal, ...barredSteps, ...rest];
    if (values['grant-to'] !== undefined) all.push({ sql: grantTo(values['grant-to'], names) });
    if (values.json)
      printJson(io, { id: settings.id, watched, steps: all.map(({ table, sql }) => ({ table, sql })) });
    else io.stdout.write(script(all, settings.lockTimeout));
    return EXIT.ok;
  },
};

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
  return ["SET client_encoding = 'UTF8'", ...transactions].map((part) => `${part};\n`).join('\n');
}
