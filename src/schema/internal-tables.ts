/** The DDL text of the internal schema and its tables, and of the functions that all triggers share. */
import { quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { type FunctionText, SEARCH_PATH } from './create-function.ts';
import { type Names, type ObjectName } from './names.ts';
import { presentIdentity } from './tables.ts';

/** PostgreSQL takes payloads shorter than 8000 bytes (https://www.postgresql.org/docs/current/sql-notify.html). */
export const MAX_BODY_BYTES = 7900;

/**
 * How many sequences each row of the log has, from a multiple of this on, whatever is done to the sequence that counts
 * rows. A row that holds many changes has a size, and they bear the sequences after its own; the change of any other row
 * bears the row's.
 */
export const STRIDE = 1000;

/** The comment by which `dropSchema` knows a schema that it may remove. */
const SCHEMA_COMMENT = 'Made by dapper-postgres-input; removed with its last input.';

export function createSchema(names: Names): string[] {
  const schema = quoteIdentifier(names.schema);
  return [
    `CREATE SCHEMA ${schema}`,
    `REVOKE ALL ON SCHEMA ${schema} FROM PUBLIC`,
    `COMMENT ON SCHEMA ${schema} IS ${quoteLiteral(SCHEMA_COMMENT)}`,
  ];
}

/** Removes the schema if it is ours and nothing is left in it. */
export function dropSchema(names: Names): string {
  const schema = quoteLiteral(quoteIdentifier(names.schema));
  const body = `
BEGIN
  IF pg_catalog.obj_description(${schema}::pg_catalog.regnamespace, 'pg_namespace') = ${quoteLiteral(SCHEMA_COMMENT)}
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = ${schema}::pg_catalog.regnamespace)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = ${schema}::pg_catalog.regnamespace) THEN
    DROP SCHEMA ${quoteIdentifier(names.schema)};
  END IF;
END`;
  return `DO ${quoteLiteral(body)}`;
}

/**
 * A schema's owner can replace what is in it, and by a trigger of his own on what he puts there do what the owner of our
 * functions may do: everything, if that is a superuser. Whoever runs the plan is not known before.
 */
export function refuseForeignSchema({ schema }: Names): string {
  const body = `
DECLARE owner record;
BEGIN
  SELECT r.rolname, r.rolsuper INTO owner
  FROM pg_catalog.pg_namespace n
  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
  JOIN pg_catalog.pg_roles r
    ON r.oid = CASE pg_catalog.pg_get_userbyid(n.nspowner) WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END
  WHERE n.nspname = ${quoteLiteral(schema)};
  IF NOT owner.rolsuper AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    RAISE insufficient_privilege USING MESSAGE = pg_catalog.format(
      'schema %I belongs to %I, who could make use of the rights of a superuser that installs: install as that role',
      ${quoteLiteral(schema)}, owner.rolname);
  END IF;
END`;
  return `DO ${quoteLiteral(body)}`;
}

/**
 * The internal tables. Dead rows of the log come as fast as its rows: vacuum goes by number, not by share. It leaves the
 * file as long as it is: to cut it off, it would lock out the writers.
 */
export const createTables = (names: Names) => ({
  lock: [
    `CREATE TABLE ${names.lockTable.sql} (
  resource integer PRIMARY KEY,
  holder text,
  token bigint NOT NULL DEFAULT 0,
  acquired_at timestamptz,
  expires_at timestamptz,
  backend_pid integer,
  backend_start timestamptz
)`,
    `INSERT INTO ${names.lockTable.sql} (resource) VALUES (1)`,
    forNobodyElse(names.lockTable),
  ],
  log: [
    `CREATE SEQUENCE ${names.logSequence.sql}`,
    `CREATE TABLE ${names.logTable.sql} (
  seq bigint PRIMARY KEY DEFAULT pg_catalog.nextval(${quoteLiteral(names.logSequence.sql)}::pg_catalog.regclass) * ${STRIDE},
  xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
  at timestamptz NOT NULL,
  tbl text NOT NULL,
  id text NOT NULL,
  op text NOT NULL,
  key text,
  size integer
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
  vacuum_truncate = off, toast.vacuum_truncate = off)`,
    forNobodyElse(names.logTable),
    `ALTER SEQUENCE ${names.logSequence.sql} OWNED BY ${names.logTable.sql}.seq`,
    `REVOKE ALL ON SEQUENCE ${names.logSequence.sql} FROM PUBLIC`,
  ],
  // The key of HMAC-SHA256 (RFC 2104), and its two padded forms, which would be dear to make for every call.
  secret: [
    `CREATE TABLE ${names.secretTable.sql} (key bytea NOT NULL, inner_pad bytea NOT NULL, outer_pad bytea NOT NULL)`,
    forNobodyElse(names.secretTable),
    `INSERT INTO ${names.secretTable.sql}
SELECT s.key, ${padded(0x36)}, ${padded(0x5c)}
FROM (SELECT pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) || pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) AS key) s`,
  ],
});

/** Default privileges may have given it away. */
const forNobodyElse = ({ sql }: ObjectName): string => `REVOKE ALL ON TABLE ${sql} FROM PUBLIC`;

const padded = (pad: number): string =>
  `(SELECT pg_catalog.string_agg(pg_catalog.set_byte(pg_catalog.decode('00', 'hex'), 0, CASE WHEN i < 32 THEN pg_catalog.get_byte(s.key, i) ELSE 0 END # ${pad}), ''::bytea ORDER BY i) FROM pg_catalog.generate_series(0, 63) i)`;

/** The functions that all triggers share. */
export const sharedFunctions = (names: Names): FunctionText[] => [
  identityFunction(names),
  guardFunction(names),
  notifyFunction(names),
];

/** Tells what identifies a row of a table now. */
const identityFunction = (names: Names): FunctionText => ({
  name: names.identityFunction.name,
  signature: `${names.identityFunction.sql}(relation oid)`,
  returns: 'TABLE (id text, key text, match text)',
  language: 'sql',
  settings: [SEARCH_PATH],
  body: presentIdentity('relation'),
});

/**
 * Whether the key's columns still bear their names, and a column besides that was called id. To ask for every statement is
 * dear. Its answer changes with the table's definition alone, and it is asked with constants: called immutable, it is
 * asked when a session plans the condition that it stands in, and again when the table's definition has changed, since a plan
 * depends on the relations whose oids it names (as of nextval('sequence'::regclass)). It looks at what the session knows
 * of the catalog, and not into its tables, as this transaction's snapshot may show an older state of them.
 */
const guardFunction = (names: Names): FunctionText => ({
  name: names.guardFunction.name,
  signature: `${names.guardFunction.sql}(relation oid, index oid, key text[], id integer)`,
  returns: 'boolean',
  language: 'sql',
  volatility: 'IMMUTABLE',
  settings: [SEARCH_PATH],
  body: `
SELECT NOT EXISTS (
  SELECT FROM unnest(key) WITH ORDINALITY k (name, position)
  WHERE pg_get_indexdef(index, position::integer, true) IS DISTINCT FROM quote_ident(name)
) AND (
  id IS NULL
  OR (pg_identify_object_as_address('pg_class'::regclass, relation, id)).object_names[3] IS NOT DISTINCT FROM 'id'
)`,
});

/**
 * Signs changes and sends them; empty or too long a body becomes `[]`: look in the change log. It says whether another
 * transaction is about to notify too: of those, one commits after the other.
 */
const notifyFunction = (names: Names): FunctionText => ({
  name: names.notifyFunction.name,
  signature: `${names.notifyFunction.sql}(body text)`,
  returns: 'void',
  language: 'plpgsql',
  settings: [SEARCH_PATH],
  // NOTIFY, the command, needs no privilege; the function pg_notify may have been revoked from the owner. What is
  // signed are bytes of UTF-8: a database in another encoding is told to look in the log.
  body: `
DECLARE
  payload text := '[]';
  header text := CASE WHEN pg_try_advisory_xact_lock(${names.notifyingKey}) THEN '"}' ELSE '","crowded":true}' END;
BEGIN
  IF body <> '' AND octet_length(body) < ${MAX_BODY_BYTES} AND getdatabaseencoding() = 'UTF8' THEN
    SELECT '[{"mac":"' || encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(body, 'UTF8'))), 'hex') || header || ',' || body || ']'
    INTO payload FROM ${names.secretTable.sql} s;
  END IF;
  EXECUTE format('NOTIFY %I, %L', ${quoteLiteral(names.channel)}, payload);
END`,
});
