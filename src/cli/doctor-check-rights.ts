/**
 * Doctor's check of what the role of the nodes may do. Some nodes do without the rights on the tables of failures, parked changes and
 * backfills, and the database does not say which nodes these are. A role that may write to some of these tables is meant to use them. If such a
 * role lacks a right, its nodes learn of it only when the first event is parked, and without a word take no part in backfills.
 */
import type { Session } from '../postgres/session.ts';
import { type Grant, backfillGrants, failureGrants, runtimeGrants } from '../schema/grants.ts';
import type { Names } from '../schema/names.ts';
import { type Check, type Finding, note, ok, problem } from './doctor-finding.ts';
import { shellWord } from './output.ts';

export const rights: Check = async ({ session, settings, names, catalog, planning }) => {
  const [role] = await session.query<{ name: string; mayInstall: boolean; mayUse: boolean }>(
    `SELECT current_user AS name,
       has_database_privilege(current_database(), 'CREATE')
         OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $1 AND has_schema_privilege(oid, 'CREATE')) AS "mayInstall",
       NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')) AS "mayUse"`,
    [names.schema],
  );
  const { name, mayInstall, mayUse } = role!;
  const needed = await compare(session, names, runtimeGrants(names, settings));
  const failing = await compare(session, names, failureGrants(names));
  const backfilling = await compare(session, names, backfillGrants(names, []));
  const lacks = (what: readonly string[]) => `role ${name} lacks ${what.join(', ')}`;
  const granted = (options = '') => `have a DBA run what plan --grant-to ${shellWord(name)}${options} prints`;

  const findings: Finding[] = [];
  const lacking = [...(mayUse ? [] : [`USAGE on ${names.schema}`]), ...needed.lacking];
  if (lacking.length > 0) findings.push(problem('rights', lacks(lacking), granted()));
  else if (planning.plan?.steps.some(({ essential }) => essential) && !mayInstall) {
    const where = catalog.schemaExists ? `schema ${names.schema}` : 'the database';
    findings.push(
      problem('rights', `role ${name} may not install`, `grant it CREATE on ${where}, or ${granted()}`),
    );
  }
  if (failing.lacking.length > 0)
    findings.push(
      failing.mayWrite
        ? problem(
            'rights',
            `${lacks(failing.lacking)}: its nodes can't keep or park failed events`,
            granted(),
          )
        : note(
            'rights',
            lacks(failing.lacking),
            `handle() does without; for process(), nack, park and metrics() ${granted()}`,
          ),
    );
  if (backfilling.lacking.length > 0 && (backfilling.mayWrite || settings.initial === 'read'))
    findings.push(
      problem('rights', `${lacks(backfilling.lacking)}: its nodes read no backfill`, granted(' --backfill')),
    );
  return findings.some(({ result }) => result === 'problem')
    ? findings
    : [ok('rights', `role ${name} has what it needs`), ...findings];
};

interface Comparison {
  /** As in `SELECT, UPDATE on lock_...`, for each table that exists. */
  readonly lacking: readonly string[];
  /** Whether the role has more than SELECT on one of the tables. Many a role may read all tables of a database. */
  readonly mayWrite: boolean;
}

/** Compares the rights of the role in use with those that these grants would give it on tables of the internal schema. */
async function compare(session: Session, { schema }: Names, grants: readonly Grant[]): Promise<Comparison> {
  const wanted = grants
    .filter(({ on }) => on === 'TABLE')
    .flatMap(({ name, privileges }) => privileges.map((privilege) => ({ name, privilege })));
  const tables = await session.query<{ lacking: string | null; mayWrite: boolean }>(
    `SELECT string_agg(privilege, ', ' ORDER BY number) FILTER (WHERE NOT has) || ' on ' || name AS lacking,
       bool_or(has AND privilege <> 'SELECT') AS "mayWrite"
     FROM (
       SELECT w.*, has_table_privilege(c.oid, w.privilege) AS has
       FROM ROWS FROM (unnest($2::text[]), unnest($3::text[])) WITH ORDINALITY w (name, privilege, number)
       JOIN pg_class c ON c.relname = w.name
       JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
     ) wanted
     GROUP BY name ORDER BY min(number)`,
    [schema, wanted.map(({ name }) => name), wanted.map(({ privilege }) => privilege)],
  );
  return {
    lacking: tables.flatMap(({ lacking }) => lacking ?? []),
    mayWrite: tables.some(({ mayWrite }) => mayWrite),
  };
}
