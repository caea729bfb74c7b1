/** Doctor's checks of the installation: whether everything is there and in force, and nothing is left over. */
import { drawn } from '../capture/change-log-sql.ts';
import { qualify, quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { runtimeGrants } from '../schema/grants.ts';
import { END_OF_NUMBERS, STRIDE } from '../schema/log-layout.ts';
import { VERSION } from '../schema/migrations.ts';
import { locationOf } from '../schema/names.ts';
import { repairs } from '../schema/repair.ts';
import { summaryOf } from '../schema/steps.ts';
import { type Check, note, ok, problem, problemFrom } from './doctor-finding.ts';
import { changesOf, isUnreadable } from './input-state.ts';
import { allSpelt, spelt } from './input.ts';
import { plural, shellWord } from './output.ts';
import { UNMATCHED_ADVICE, unmatchedProblem } from './remarks.ts';

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
    const advice = `have a DBA run what plan --grant-to ${shellWord(name)} prints`;
    return [problem('rights', `role ${name} lacks ${lacking.join(', ')}`, advice)];
  }
  if (planning.plan?.steps.some(({ essential }) => essential) && !mayInstall) {
    const where = catalog.schemaExists ? `schema ${names.schema}` : 'the database';
    const advice = `grant it CREATE on ${where}, or have a DBA run what plan --grant-to ${shellWord(name)} prints`;
    return [problem('rights', `role ${name} may not install`, advice)];
  }
  return [ok('rights', `role ${name} has what it needs`)];
};

/** Not named `version`, which is the check of the server's. */
export const installedVersion: Check = ({ names, catalog: { version, tables }, planning: { refusal } }) => {
  const check = 'installed version';
  if (refusal !== null) {
    const found = problemFrom(check, refusal);
    return [version === 0 ? found : { ...found, advice: 'update this package' }];
  }
  // The lock table keeps the version.
  if (version === null || !tables.includes(names.lockTable.name)) return [];
  if (version === VERSION) return [ok(check, `${version}`)];
  return [
    problem(check, `${version}, and this package makes version ${VERSION}`, 'run migrate, or start a node'),
  ];
};

/** Compares the command line's options with those under which a node, or somebody, installed last. */
export const options: Check = ({ catalog, planning: { plan }, differences }) => {
  if (differences.length > 0) {
    return differences.map(({ option, installed, wanted }) =>
      problem(
        'options',
        `installed with ${spelt(option, installed)}, and here it is ${spelt(option, wanted)}`,
        'leave the option out; or, if the nodes are to have it, start them with it or run install with it',
      ),
    );
  }
  if (!plan || !catalog.options) return [];
  return [ok('options', allSpelt(catalog.options))];
};

export const drift: Check = ({ catalog, planning: { plan } }) => {
  // Without a plan, the check of the installed version says why there is none.
  if (!plan) return [];
  const { steps, barredSteps, watched } = plan;
  const missing = [...steps, ...barredSteps];
  if (missing.length === 0)
    return [ok('installation', `complete; ${plural(watched.length, 'table')} watched`)];
  const tables = [...new Set(missing.flatMap(({ table }) => table ?? []))];
  const what = [
    ...(missing.some(({ essential }) => essential) ? ['internal objects'] : []),
    ...(tables.length > 0 ? [`the triggers of ${tables.join(', ')}`] : []),
    ...new Set(missing.filter(({ table, essential }) => table === undefined && !essential).map(summaryOf)),
  ].join('; ');
  const advice = 'start a node, or run install; or have a DBA run what plan prints';
  return catalog.tables.length === 0
    ? [problem('installation', 'nothing is installed', advice)]
    : [problem('installation', `not as it should be: ${what}`, advice)];
};

/** Finds internal tables that a restore or a person has left incomplete. */
export const internalTableParts: Check = async ({ session, names, catalog }) => {
  const check = 'internal tables';
  const secured = await session.query<{ table: string; enabled: boolean }>(
    `SELECT c.relname AS "table", c.relrowsecurity AS enabled
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = ANY ($2) AND (c.relrowsecurity OR c.relforcerowsecurity) ORDER BY 1`,
    [names.schema, catalog.tables],
  );
  return [
    ...repairs(catalog, names).map(({ lost }) => problem(check, lost, 'run install, or start a node')),
    ...secured.map(({ table, enabled }) =>
      enabled
        ? problem(
            check,
            `row-level security is on for ${table}`,
            `ALTER TABLE ${qualify(names.schema, table)} DISABLE ROW LEVEL SECURITY`,
          )
        : note(
            check,
            `row-level security is off for ${table} and set to bind its owner too: when somebody enables it, the triggers fail`,
            `ALTER TABLE ${qualify(names.schema, table)} NO FORCE ROW LEVEL SECURITY`,
          ),
    ),
  ];
};

/** Finds a sequence that somebody has set back: it allocates numbers that rows of the log have. */
export const sequence: Check = async ({ session, names, catalog, state }) => {
  const { logTable, logSequence } = names;
  if (
    !state ||
    isUnreadable(state, logTable) ||
    !catalog.hasSequence ||
    !catalog.tables.includes(logTable.name)
  )
    return [];
  const [found] = await session.query<{ last: string; highest: string }>(
    `SELECT (drawn / ${STRIDE})::text AS last, (highest / ${STRIDE})::text AS highest
     FROM (SELECT ${drawn(logSequence)} AS drawn) s,
       (SELECT coalesce(max(seq), 0) AS highest FROM ${logTable.sql} WHERE seq < ${END_OF_NUMBERS}) l
     WHERE drawn > 0 AND (drawn < highest OR drawn >= ${END_OF_NUMBERS})`,
  );
  if (!found) return [];
  return [
    problem(
      'sequence',
      `${logSequence.name} is at ${found.last}, and the log's rows come up to ${found.highest}: statements of the application may fail`,
      `start a node whose role may UPDATE the sequence; or SELECT setval(${quoteLiteral(logSequence.sql)}, ${BigInt(found.highest) + 1000n})`,
    ),
  ];
};

/** Finds internal tables that another version has made. */
export const internalTables: Check = ({ state, names }) =>
  (state?.unreadable ?? []).map(({ table, reason }) =>
    problem(
      'internal tables',
      `${table} can't be read (${reason})${table === names.logTable.name ? `; it has ${changesOf(state!, names)}` : ''}`,
      'use the version of this package that the nodes have; or end the nodes, run uninstall, then install',
    ),
  );

export const tables: Check = ({ planning: { plan } }) => [
  ...(plan?.unwatchable ?? []).map(({ table, reason }) =>
    problem('tables', `${table} can't be watched`, reason),
  ),
  ...(plan?.remarks.unmatched ?? []).map((pattern) =>
    note('tables', unmatchedProblem(pattern), UNMATCHED_ADVICE),
  ),
];

export const triggers: Check = async ({ session, catalog }) => {
  const disabled = await session.query<{ schema: string; table: string; trigger: string }>(
    `SELECT n.nspname AS schema, c.relname AS table, t.tgname AS trigger
     FROM pg_trigger t
     JOIN pg_class c ON c.oid = t.tgrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN json_to_recordset($1::json) ours (schema text, "table" text, trigger text)
       ON ours.schema = n.nspname AND ours."table" = c.relname AND ours.trigger = t.tgname
     WHERE t.tgenabled IN ('D', 'R')
     ORDER BY 1, 2, 3`,
    [JSON.stringify(catalog.triggers)],
  );
  if (disabled.length === 0) return [ok('triggers', 'none is disabled')];
  return disabled.map(({ schema, table, trigger }) =>
    problem(
      'triggers',
      `${trigger} is disabled: changes of ${locationOf(schema, table)} are lost`,
      `ALTER TABLE ${qualify(schema, table)} ENABLE TRIGGER ${quoteIdentifier(trigger)}`,
    ),
  );
};

export const leftovers: Check = async ({ session, names, catalog }) => {
  const findings = catalog.triggers
    .filter((t) => t.functionSchema === 'public' && t.function === names.originalFunction)
    .map(({ schema, table, trigger }) =>
      problem(
        'leftovers',
        `the original's trigger ${trigger} on ${locationOf(schema, table)}`,
        'end the nodes that run the original; a node of this package, or install, then removes it',
      ),
    );
  const [lockTable] = await session.query(
    `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND n.nspname <> $1 AND c.relname = $2`,
    [names.schema, names.lockTable.name],
  );
  if (lockTable) {
    const drop = `when no node runs the original any more: DROP TABLE ${qualify('public', names.lockTable.name)}`;
    findings.push(
      problem('leftovers', `the original's table ${names.lockTable.name} in schema public`, drop),
    );
  }
  return findings.length > 0 ? findings : [ok('leftovers', 'none of the original')];
};
