/** Doctor's check of what the role of the nodes may do. */
import { quoteIdentifier } from '../postgres/quoting.ts';
import { runtimeGrants } from '../schema/grants.ts';
import { type Check, ok, problem } from './doctor-finding.ts';

export const rights: Check = async ({ session, settings, names, catalog, planning }) => {
  const grants = runtimeGrants(names, settings).filter(({ on }) => on === 'TABLE');
  const wanted = grants.flatMap(({ name, privileges }) =>
    privileges.map((privilege) => ({ name, privilege })),
  );
  const [role] = await session.query<{ name: string; mayInstall: boolean; lacking: string[] }>(
    `SELECT current_user AS name,
       has_database_privilege(current_database(), 'CREATE')
         OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $1 AND has_schema_privilege(oid, 'CREATE')) AS "mayInstall",
       (SELECT coalesce(json_agg(lacking.what), '[]') FROM (
          SELECT 'USAGE on ' || nspname AS what FROM pg_namespace
          WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')
          UNION ALL
          SELECT w.privilege || ' on ' || c.relname
          FROM ROWS FROM (unnest($2::text[]), unnest($3::text[])) w (name, privilege)
          JOIN pg_class c ON c.relname = w.name
          JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
          WHERE NOT has_table_privilege(c.oid, w.privilege)
        ) lacking) AS lacking`,
    [names.schema, wanted.map(({ name }) => name), wanted.map(({ privilege }) => privilege)],
  );
  const { name, mayInstall, lacking } = role!;
  if (lacking.length > 0) {
    const advice = `have a DBA run what plan --grant-to ${quoteIdentifier(name)} prints`;
    return [problem('rights', `role ${name} lacks ${lacking.join(', ')}`, advice)];
  }
  if (planning.plan?.steps.some(({ essential }) => essential) && !mayInstall) {
    const where = catalog.schemaExists ? `schema ${names.schema}` : 'the database';
    const advice = `grant it CREATE on ${where}, or have a DBA run what plan --grant-to ${quoteIdentifier(name)} prints`;
    return [problem('rights', `role ${name} may not install`, advice)];
  }
  return [ok('rights', `role ${name} has what it needs`)];
};
