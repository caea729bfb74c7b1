/** Doctor's check of the conditions `when`: a condition that fails lets every change be an event, and nobody is told of the error. */
import { qualify } from '../postgres/quoting.ts';
import { locationOf } from '../schema/names.ts';
import { evaluateWhen } from '../schema/row-filter.ts';
import { type CandidateTable, candidateTables, chooseTables } from '../schema/tables.ts';
import { type Check, note, ok, problem } from './doctor-finding.ts';

/** Of each table. */
const ROWS = 1000;

export const conditions: Check = async ({ session, settings }) => {
  if (!Object.values(settings.watch ?? {}).some(({ when }) => when !== undefined)) return [];
  const candidates = await session.query<CandidateTable>(candidateTables, [settings.schemas, true]);
  const conditional = chooseTables(candidates, settings).tables.filter(
    ({ options }) => options.when !== undefined,
  );
  const findings = [];
  for (const { schema, name, columns, options } of conditional) {
    const table = locationOf(schema, name);
    const evaluation = evaluateWhen(options.when!, columns!, qualify(schema, name), ROWS);
    try {
      await session.transaction(['BEGIN READ ONLY'], () => session.query(evaluation, [true]));
    } catch (error) {
      const { message, code } = error as Error & { code?: string };
      findings.push(
        code === '42501'
          ? note(
              'conditions',
              `whether when of ${table} fails is not known: ${message}`,
              'run doctor as a role that may read the table',
            )
          : problem(
              'conditions',
              `when of ${table} fails: ${message}`,
              'such changes are events in any case: correct the condition',
            ),
      );
    }
  }
  return findings.length > 0
    ? findings
    : [ok('conditions', `none of ${conditional.length} fails for the rows that were tried`)];
};
