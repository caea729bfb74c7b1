/** The DDL text of the internal schema and its tables. */
import { quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { LOG_COLUMN_SETTINGS, SINGLE_ROW, logColumns } from './log-layout.ts';
import { VERSION } from './migrations.ts';
import { LEASE_RESOURCE, type Names, type ObjectName } from './names.ts';

/** The comment by which `dropSchema` knows a schema that it may remove. */
const SCHEMA_COMMENT = 'Made by dapper-postgres-input; removed with its last input.';

export function createSchema(names: Names): string[] {
  const schema = quoteIdentifier(names.schema);
  // Default privileges may have opened it to roles, and the tables in it too.
  const closeToRoles = `
DECLARE grantee name;
BEGIN
  FOR grantee IN
    SELECT DISTINCT pg_get_userbyid(a.grantee) FROM pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspname = ${quoteLiteral(names.schema)} AND a.grantee NOT IN (0, n.nspowner)
  LOOP
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', ${quoteLiteral(names.schema)}, grantee);
  END LOOP;
END`;
  return [
    `CREATE SCHEMA ${schema}`,
    `REVOKE ALL ON SCHEMA ${schema} FROM PUBLIC`,
    `DO ${quoteLiteral(closeToRoles)}`,
    `COMMENT ON SCHEMA ${schema} IS ${quoteLiteral(SCHEMA_COMMENT)}`,
  ];
}

/** Removes the schema if it is ours and nothing is left in it. It stays where another role has made it, or has put something else into it. */
export function dropSchema(names: Names): string {
  const schema = quoteLiteral(quoteIdentifier(names.schema));
  const body = `
BEGIN
  IF obj_description(${schema}::regnamespace, 'pg_namespace') = ${quoteLiteral(SCHEMA_COMMENT)}
     AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = ${schema}::regnamespace)
     AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = ${schema}::regnamespace) THEN
    DROP SCHEMA ${quoteIdentifier(names.schema)};
  END IF;
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN NULL;
END`;
  return `DO ${quoteLiteral(body)}`;
}

/**
 * Fails if a superuser installs into the schema of another role. That role can replace what is in its schema, and put a trigger of
 * its own on the log: the trigger would run with the rights of the owner of our functions. The check is made by the server, since
 * the role that runs a printed plan is not known before.
 */
export function refuseForeignSchema({ schema }: Names): string {
  const body = `
DECLARE owner record;
BEGIN
  SELECT r.rolname, r.rolsuper INTO owner
  FROM pg_namespace n
  JOIN pg_database d ON d.datname = current_database()
  JOIN pg_roles r
    ON r.oid = CASE pg_get_userbyid(n.nspowner) WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END
  WHERE n.nspname = ${quoteLiteral(schema)};
  IF NOT owner.rolsuper AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE insufficient_privilege USING MESSAGE = format(
      'schema %I belongs to %I, who could make use of the rights of a superuser that installs: install as that role',
      ${quoteLiteral(schema)}, owner.rolname);
  END IF;
END`;
  return `DO ${quoteLiteral(body)}`;
}

/**
 * The internal tables. The log gets dead rows as fast as rows, so autovacuum starts at a number of dead rows, not at a share. It
 * does not truncate the file: for that it would lock out the writers.
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
  backend_start timestamptz,
  version integer NOT NULL DEFAULT ${VERSION},
  options jsonb,
  installation uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
)`,
    leaseRow(names),
    forNobodyElse(names.lockTable),
  ],
  log: [
    // The table does not own it: scripts that set all sequences to what their tables hold, and TRUNCATE ... RESTART IDENTITY, look for
    // owned ones. Where somebody has dropped the log alone, it goes on from where it was.
    `CREATE SEQUENCE IF NOT EXISTS ${names.logSequence.sql}`,
    `CREATE TABLE ${names.logTable.sql} (${logColumns(names.logSequence)}
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
  vacuum_truncate = off, toast.vacuum_truncate = off)`,
    ...LOG_COLUMN_SETTINGS.map((setting) => `ALTER TABLE ${names.logTable.sql} ${setting}`),
    forNobodyElse(names.logTable),
    `REVOKE ALL ON SEQUENCE ${names.logSequence.sql} FROM PUBLIC`,
  ],
  secret: [
    `CREATE TABLE ${names.secretTable.sql} (key bytea NOT NULL, inner_pad bytea NOT NULL, outer_pad bytea NOT NULL)`,
    forNobodyElse(names.secretTable),
    secretRow(names),
  ],
  failed: [
    `CREATE TABLE ${names.failedTable.sql} (
  sequence text PRIMARY KEY,
  seq bigint NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  deaths integer NOT NULL DEFAULT 0,
  error text,
  next_at timestamptz,
  delay double precision
)`,
    forNobodyElse(names.failedTable),
  ],
  parked: [
    `CREATE TABLE ${names.parkedTable.sql} (
  sequence text PRIMARY KEY,${SINGLE_ROW},
  attempts integer NOT NULL,
  error text NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
)`,
    forNobodyElse(names.parkedTable),
  ],
  // A row with an empty sequence is the backfill of one table. Any other row is an event of it that a caller's transaction has acknowledged.
  backfill: [
    `CREATE TABLE ${names.backfillTable.sql} (
  backfill bigint NOT NULL,
  relation oid NOT NULL,
  sequence text NOT NULL DEFAULT '',
  schema text,
  name text,
  location text,
  is_initial boolean NOT NULL DEFAULT false,
  condition text,
  chunk integer,
  key_columns text,
  after text[],
  done bigint NOT NULL DEFAULT 0,
  estimated bigint,
  state text,
  error text,
  requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (backfill, relation, sequence)
)`,
    forNobodyElse(names.backfillTable),
  ],
  shape: [
    `CREATE TABLE ${names.shapeTable.sql} (name text PRIMARY KEY, columns jsonb NOT NULL)`,
    forNobodyElse(names.shapeTable),
  ],
});

// The rows that must be there. A dump of the schema alone brings the tables back without them.

export const leaseRow = ({ lockTable }: Names): string =>
  `INSERT INTO ${lockTable.sql} (resource) VALUES (${LEASE_RESOURCE}) ON CONFLICT DO NOTHING`;

/** The key of HMAC-SHA256 (RFC 2104). The key's two padded forms are kept too: to make them for every call would cost too much. */
export const secretRow = ({ secretTable }: Names): string => `INSERT INTO ${secretTable.sql}
SELECT s.key, ${padded(0x36)}, ${padded(0x5c)}
FROM (SELECT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) AS key) s
WHERE NOT EXISTS (SELECT FROM ${secretTable.sql})`;

/** `owner`: null for the role that runs the statements. */
export const giveTo = ({ sql }: ObjectName, owner: string | null): string[] =>
  owner === null ? [] : [`ALTER TABLE ${sql} OWNER TO ${quoteIdentifier(owner)}`];

/** Takes back what default privileges may have granted. */
const forNobodyElse = ({ sql }: ObjectName): string => `REVOKE ALL ON TABLE ${sql} FROM PUBLIC`;

const padded = (pad: number): string =>
  `(SELECT string_agg(set_byte(decode('00', 'hex'), 0, CASE WHEN i < 32 THEN get_byte(s.key, i) ELSE 0 END # ${pad}), ''::bytea ORDER BY i) FROM generate_series(0, 63) i)`;
