/** What of ours, and of the original's, the database's catalog holds. */
import type { Session, Statement } from '../postgres/session.ts';
import { inputOf } from './create-function.ts';
import { ADDED_COLUMNS } from './log-layout.ts';
import { VERSION_LINE } from './migrations.ts';
import { LEASE_RESOURCE, type Names, RECORD_FUNCTIONS, TRIGGER_EVENTS, type TriggerEvent } from './names.ts';
import { rowDataFunctionNames } from './row-data.ts';
import { sharedFunctionNames } from './shared-functions.ts';
import { type KeptOptions, type StoredOptions, fromDatabase } from './stored-options.ts';

export interface ExistingTrigger {
  readonly schema: string;
  readonly table: string;
  readonly trigger: string;
  readonly functionSchema: string;
  readonly function: string;
  /** Null if it fires on several events. */
  readonly event: TriggerEvent | null;
  /** Whether it fires before the event. */
  readonly isBefore: boolean;
  readonly owner: string;
  /** Whether the role in use may drop it. */
  readonly owned: boolean;
}

export interface ExistingFunction {
  readonly name: string;
  readonly arguments: string;
  /** Of the body, SHA-256: there may be thousands of functions. */
  readonly digest: string | null;
  readonly settings: string[] | null;
  /** As pg_proc.provolatile has it. */
  readonly volatility: string;
  /** Whether it runs with the rights of its owner. */
  readonly isDefiner: boolean;
  /** Whether it returns NULL for an argument that is NULL, without being called. */
  readonly isStrict: boolean;
  /** As pg_get_function_result prints it. */
  readonly returns: string;
  readonly owner: string;
  /** Of the package that made it; null for one of version 1, or of somebody else. */
  readonly version: number | null;
}

export interface Catalog {
  readonly schemaExists: boolean;
  /** Whose the change log is; null where there is none. */
  readonly logOwner: string | null;
  /** Whether the role in use may give something to that role. */
  readonly logOwned: boolean;
  /** What is installed: null for nothing, 0 for a log that is older than version 1. */
  readonly version: number | null;
  /** Under which options a node installed last; null where that is not kept. */
  readonly options: StoredOptions | null;
  /** Those of the node whose term began last, if another node has joined since; else null. */
  readonly optionsInForce: StoredOptions | null;
  /** Whether the role in use may not read them. */
  readonly optionsAreHidden: boolean;
  /** Those of the internal tables that exist. */
  readonly tables: string[];
  /** Those that have lost the row that must be there; as far as the role in use may read them. */
  readonly emptied: readonly string[];
  /** Those that have no primary key. The table of the secret is made without one. */
  readonly keyless: readonly string[];
  /** The columns of the internal tables that have no default, as they are made or now. */
  readonly withoutDefault: readonly { readonly table: string; readonly column: string }[];
  /** The names of the shapes that are kept; null if the role in use may not read them. */
  readonly shapes: readonly string[] | null;
  /** Whether the sequence of the log exists. */
  readonly hasSequence: boolean;
  /** Whether the log has the columns that version 4 has added. */
  readonly hasLogColumns: boolean;
  readonly functions: ExistingFunction[];
  readonly triggers: ExistingTrigger[];
  /** Whether the original's function exists, and the role in use may drop it. */
  readonly originalFunction: boolean;
}

// Our functions are known by their names. A shared function's name is derived from the input's id. That of a trigger function has
// a hash of the id, the table and the event, which tells its input as long as its trigger is on that table: TypeScript compares
// them. After the table was renamed or dropped, the input stands in the function's first line. A function of version 1 has no such
// line, and is this input's when it writes to the input's log.
// $1: internal schema. $2: names of the internal tables. $3: how a function of version 1 writes to the log. $4: names of the shared functions.
// $5: the original's function. $6: the log's name. $7: a regular expression that finds a function's version. $8: the lock table's name.
// $9: the input's id, as JSON. $10: a regular expression that the names of trigger functions match. $11: the log's sequence. $12: the columns that version 4 has added to the log.
const existing: Statement = {
  name: 'catalog_existing',
  text: `
WITH ours AS (
  SELECT p.oid, p.proname, p.prosrc, p.proconfig, p.proowner, p.provolatile, p.prosecdef, p.proisstrict, oidvectortypes(p.proargtypes) AS arguments,
    p.proname = ANY ($4) OR coalesce(${inputOf('p.prosrc')} = $9, strpos(p.prosrc, $3) > 0) AS certain
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = $1 AND (p.proname = ANY ($4) OR (p.proname ~ $10 AND p.prorettype IN ('trigger'::regtype, 'boolean'::regtype)))
), internal (oid, namespace, relname, columns) AS (
  SELECT c.oid, n.oid, c.relname, ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = ANY ($2)
)
SELECT
  EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS "schemaExists",
  log.owner AS "logOwner", coalesce(log.owned, false) AS "logOwned",
  (SELECT coalesce(json_agg(relname), '[]') FROM internal) AS tables,
  (SELECT max(pg_get_expr(d.adbin, d.adrelid)::int) FROM internal
   JOIN pg_attribute a ON a.attrelid = internal.oid AND a.attname = 'version'
   JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   WHERE relname = $8) AS "lockVersion",
  EXISTS (SELECT FROM internal WHERE relname = $6 AND 'size' <> ALL (columns)) AS "isOld",
  EXISTS (SELECT FROM internal WHERE relname = $8 AND 'options' = ANY (columns) AND has_table_privilege(oid, 'SELECT')
    AND has_schema_privilege(namespace, 'USAGE')) AS "tellsOptions",
  (SELECT coalesce(json_agg(relname), '[]') FROM internal WHERE relname <> $6 AND has_table_privilege(oid, 'SELECT')
    AND has_schema_privilege(namespace, 'USAGE') AND NOT row_security_active(oid)) AS readable,
  (SELECT coalesce(json_agg(relname), '[]') FROM internal
   WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = internal.oid AND contype = 'p')) AS keyless,
  (SELECT coalesce(json_agg(json_build_object('table', relname, 'column', a.attname)), '[]') FROM internal
   JOIN pg_attribute a ON a.attrelid = internal.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef) AS "withoutDefault",
  EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $11 AND c.relkind = 'S') AS "hasSequence",
  EXISTS (SELECT FROM internal WHERE relname = $6 AND columns @> $12::text[]) AS "hasLogColumns",
  (SELECT coalesce(json_agg(json_build_object(
     'name', proname, 'arguments', arguments, 'settings', proconfig, 'certain', certain,
     'owner', pg_get_userbyid(proowner), 'volatility', provolatile, 'isDefiner', prosecdef, 'isStrict', proisstrict, 'returns', pg_get_function_result(oid),
     'version', substring(left(prosrc, 100), $7)::int,
     'digest', CASE WHEN certain THEN encode(sha256(convert_to(prosrc, 'UTF8')), 'hex') END)), '[]')
   FROM ours) AS functions,
  (SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'table', c.relname,
     'trigger', t.tgname, 'functionSchema', pn.nspname, 'function', p.proname,
     'event', CASE t.tgtype & 60 WHEN 4 THEN 'insert' WHEN 8 THEN 'delete' WHEN 16 THEN 'update' WHEN 32 THEN 'truncate' END,
     'isBefore', t.tgtype & 2 <> 0,
     'certain', coalesce(ours.certain, true),
     'owner', pg_get_userbyid(c.relowner), 'owned', pg_has_role(c.relowner, 'USAGE'))), '[]')
   FROM pg_trigger t
   JOIN pg_proc p ON p.oid = t.tgfoid
   JOIN pg_namespace pn ON pn.oid = p.pronamespace
   JOIN pg_class c ON c.oid = t.tgrelid
   JOIN pg_namespace n ON n.oid = c.relnamespace
   LEFT JOIN ours ON ours.oid = p.oid
   WHERE NOT t.tgisinternal AND t.tgparentid = 0
     AND (ours.oid IS NOT NULL OR (pn.nspname = 'public' AND p.proname = $5))) AS triggers,
  EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND p.proname = $5 AND p.pronargs = 0 AND p.prorettype = 'trigger'::regtype
      AND pg_has_role(p.proowner, 'USAGE')) AS "originalFunction"
FROM (SELECT) one LEFT JOIN LATERAL (
  SELECT pg_get_userbyid(c.relowner) AS owner, pg_has_role(c.relowner, 'MEMBER') AS owned
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $6
) log ON true`,
};

/** For reading the catalog of a database with thousands of tables, in milliseconds. */
export const COMPARISON_TIMEOUT = 60_000;

/** `certain`: the function itself says that it is this input's, and its table need not be known. */
type Certain<Object> = Object & { readonly certain: boolean };
interface Found extends Omit<
  Catalog,
  'version' | 'options' | 'optionsInForce' | 'optionsAreHidden' | 'emptied' | 'shapes'
> {
  /** The default of the lock table's column `version`. */
  readonly lockVersion: number | null;
  readonly isOld: boolean;
  readonly tellsOptions: boolean;
  /** The tables but the log, if the role in use may read them. */
  readonly readable: string[];
  readonly functions: Certain<ExistingFunction>[];
  readonly triggers: Certain<ExistingTrigger>[];
}

export async function readCatalog(session: Session, names: Names): Promise<Catalog> {
  const values = [
    names.schema,
    [
      names.lockTable,
      names.logTable,
      names.secretTable,
      names.failedTable,
      names.parkedTable,
      names.backfillTable,
      names.shapeTable,
    ].map(({ name }) => name),
    // The parenthesis belongs to it: the quoted name of log `a"b` begins like that of log `a`.
    `INSERT INTO ${names.logTable.sql} (`,
    [...sharedFunctionNames(names), ...rowDataFunctionNames(names)],
    names.originalFunction,
    names.logTable.name,
    VERSION_LINE,
    names.lockTable.name,
    JSON.stringify(names.id),
    RECORD_FUNCTIONS,
    names.logSequence.name,
    ADDED_COLUMNS,
  ];
  const [row] = await session.query<Found>(existing, values, COMPARISON_TIMEOUT);
  const found = row!;
  const triggers = found.triggers.filter(
    ({ certain, schema, table, ...t }) =>
      certain ||
      TRIGGER_EVENTS.some((event) => names.recordFunction(schema, table, event).name === t.function),
  );
  const used = new Set(triggers.map((trigger) => trigger.function));
  const kept = found.tellsOptions ? await readOptions(session, names) : null;
  return {
    ...found,
    emptied: await readEmptied(session, names, found.readable),
    shapes: !found.tables.includes(names.shapeTable.name)
      ? []
      : found.readable.includes(names.shapeTable.name)
        ? await readShapes(session, names)
        : null,
    version: found.tables.length === 0 ? null : found.isOld ? 0 : (found.lockVersion ?? 1),
    options: kept?.installed ?? null,
    optionsInForce: kept?.inForce ?? null,
    optionsAreHidden: !found.tellsOptions,
    triggers,
    functions: found.functions.filter(({ certain, name }) => certain || used.has(name)),
  };
}

/** Which of the tables have lost the row that must be there. */
async function readEmptied(
  session: Session,
  { lockTable, secretTable }: Names,
  readable: readonly string[],
): Promise<string[]> {
  const emptied: string[] = [];
  for (const { name, sql } of [lockTable, secretTable]) {
    if (!readable.includes(name)) continue;
    const condition = name === lockTable.name ? `WHERE resource = ${LEASE_RESOURCE}` : '';
    const rows = await session.query(`SELECT FROM ${sql} ${condition}`);
    if (rows.length === 0) emptied.push(name);
  }
  return emptied;
}

async function readShapes(session: Session, { shapeTable }: Names): Promise<string[]> {
  const rows = await session.query<{ name: string }>(`SELECT name FROM ${shapeTable.sql}`);
  return rows.map(({ name }) => name);
}

export async function readOptions(
  session: Session,
  { lockTable }: Pick<Names, 'lockTable'>,
): Promise<KeptOptions> {
  const [row] = await session.query<KeptOptions>(
    `SELECT options - 'inForce' AS installed, options -> 'inForce' AS "inForce"
     FROM ${lockTable.sql} WHERE resource = ${LEASE_RESOURCE}`,
  );
  return { installed: fromDatabase(row?.installed ?? null), inForce: fromDatabase(row?.inForce ?? null) };
}

// A changed row has a greater xmin than before, so every change of a row changes the sum of all xmin or their count. What VACUUM and ANALYZE
// note in pg_class changes no xmin: they write it in place. A sequence's value is no part of the catalog.
// $1: the schemas. $2: the internal schema.
const fingerprint: Statement = {
  name: 'catalog_fingerprint',
  text: `
WITH relation AS MATERIALIZED (
  SELECT c.oid, c.xmin FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE (c.relkind IN ('r', 'p', 'f') AND (n.nspname = ANY ($1) OR c.relispartition)) OR (c.relkind IN ('r', 'S') AND n.nspname = $2)
), version (xmin) AS (
  SELECT xmin::text::bigint FROM relation
  UNION ALL
  SELECT a.xmin::text::bigint FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
  UNION ALL
  SELECT i.xmin::text::bigint FROM relation r JOIN pg_inherits i ON i.inhparent = r.oid
  UNION ALL
  SELECT i.xmin::text::bigint FROM relation r JOIN pg_index i ON i.indrelid = r.oid
  UNION ALL
  SELECT t.xmin::text::bigint FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid
  UNION ALL
  SELECT p.xmin::text::bigint FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = $2
  UNION ALL
  SELECT xmin::text::bigint FROM pg_publication WHERE puballtables
)
SELECT concat(count(*), ' ', sum(xmin)) AS fingerprint FROM version`,
};

/** A text that changes whenever something in the catalog does that a plan depends on. */
export async function catalogFingerprint(
  session: Session,
  schemas: readonly string[],
  names: Names,
  timeout = COMPARISON_TIMEOUT,
): Promise<string> {
  const [row] = await session.query<{ fingerprint: string }>(fingerprint, [schemas, names.schema], timeout);
  return row!.fingerprint;
}
