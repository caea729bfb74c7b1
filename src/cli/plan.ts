import type { Settings } from '../config/settings.ts';
import { grantTo } from '../schema/grants.ts';
import { VERSION } from '../schema/migrations.ts';
import { plan as planSteps } from '../schema/plan.ts';
import { type Step, summaryOf } from '../schema/steps.ts';
import { EXIT, command } from './command.ts';
import { givenInput, onInput } from './input.ts';
import { printJson, printable } from './output.ts';
import { warningsOf } from './remarks.ts';

export const plan = command({
  summary: 'print the SQL that install or migrate would run, and run nothing',
  details: `\
For a DBA: plan ... | psql, as a role that owns the tables, or as a superuser. The plan leaves out what is
in place already: psql stops at the first step that fails, and a new plan goes on from there. One transaction
per table, each under the lock timeout. --json gives the SQL without psql's own commands, for other clients:
run each step's statements in a transaction of their own.
Nodes then run with the option install: false, as a role with the rights that --grant-to gives.`,
  options: {
    'grant-to': {
      type: 'string',
      value: 'ROLE',
      help: 'add the rights that a node needs, and no more, for this role',
    },
    backfill: { type: 'boolean', help: 'with --grant-to: also the rights for backfills: to read the tables' },
  },
  async run(call) {
    const { values, io } = call;
    return onInput(givenInput(call), async ({ session, settings, names }) => {
      const { version, steps, barredSteps, isInterim, watched, read, remarks } = await planSteps(
        session,
        settings,
        names,
      );
      const all = [...inOrder(steps, barredSteps)];
      const role = values['grant-to'];
      if (role !== undefined)
        all.push({
          summary: `the rights of role ${role}`,
          sql: grantTo(role, names, settings, values.backfill ? read : null),
        });
      if (values.json) {
        const told = all.map((step) => ({
          summary: summaryOf(step),
          table: step.table,
          sql: inTransaction(step, settings),
        }));
        printJson(io, {
          id: names.id,
          from: version,
          to: VERSION,
          watched,
          ...remarks,
          ...(isInterim && { isInterim }),
          steps: told,
        });
      } else {
        const warnings = [...warningsOf(remarks), ...(isInterim ? [INTERIM] : [])].map(
          (warning) => `warning: ${warning}`,
        );
        io.stdout.write(warnings.map(comment).join('') + script(all, version, settings));
        // psql does not show the comments of a script.
        for (const warning of warnings) io.stderr.write(`dapper-postgres-input: ${printable(warning)}\n`);
      }
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

const INTERIM =
  'the log has no columns for rows yet: run this plan, then another plan, which lets the functions log rows';

/** By default psql goes on after a step that failed, and ends with exit code 0. */
const STOP_AT_ERROR = '\\set ON_ERROR_STOP on';

type ScriptSettings = Pick<Settings, 'id' | 'lockTimeout'>;

const inTransaction = ({ sql }: Step, { lockTimeout }: ScriptSettings): readonly string[] => [
  `SET LOCAL lock_timeout = ${lockTimeout}`,
  'SET LOCAL search_path = pg_catalog',
  ...sql,
];

function script(steps: readonly Step[], version: number | null, settings: ScriptSettings): string {
  const { id } = settings;
  if (steps.length === 0)
    return `-- Everything is in place, at version ${VERSION}: there is nothing to do.\n`;
  const transactions = steps.map((step) => {
    const statements = ['BEGIN', ...inTransaction(step, settings), 'COMMIT'];
    return `${comment(summaryOf(step))}${statements.join(';\n')};\n`;
  });
  return [
    `${STOP_AT_ERROR}\nSET client_encoding = 'UTF8';\n`,
    comment(`input ${id}: ${version === null ? 'new, at' : `from version ${version} to`} version ${VERSION}`),
    ...transactions,
  ].join('\n');
}

const comment = (text: string): string => `-- ${text.replaceAll(/[\r\n]/g, ' ')}\n`;
