/**
 * The version of all that this package puts into a database, and the step from each version to the next.
 *
 * One number counts every change of what is installed: of a table, of a shared function, of the text of a trigger
 * function. Version 1 is what package version 0.1.0 installs.
 *
 * Where it is kept: in the lock table. The default of its column `version` says it to every role, since anybody may read
 * the catalog; its row says it to a node that polls the lease. Version 1 has no such column. Every function
 * says in its first line which version made it.
 *
 * How a database comes to this version: all steps that are missing and all functions that differ are one transaction,
 * under a short lock_timeout. It is tried again and again; between two attempts the application writes.
 *
 * What happens when versions meet:
 * - A newer version was here: nothing is touched, and the node ends with ERR_INSTALL. A node that is running finds out at its
 *   next look, or, as a standby, at its next poll.
 * - An older node is still active: it goes on with tables of this version. A node of version 1 knows no versions, and puts its own
 *   functions back. The first look of the next term of this version replaces them.
 *
 * So every step obeys three rules:
 * 1. Functions and nodes of all earlier versions work with the tables that it leaves, for as long as they live.
 * 2. It may run twice: a lock table that somebody has dropped is made anew, beside a log that has been migrated.
 * 3. It rewrites no table, and holds its locks for milliseconds.
 */
import { PostgresInputError } from '../api/errors.ts';
import { quoteLiteral } from '../postgres/quoting.ts';
import { ADDED_COLUMNS, LOG_COLUMN_SETTINGS } from './log-layout.ts';
import type { Names } from './names.ts';

/** What this package installs. */
export const VERSION = 5;

export interface Migration {
  readonly to: number;
  /** For whoever reads the plan. */
  readonly summary: string;
  sql(names: Names): readonly string[];
}

/**
 * No table owns the log's sequence (createTables says why). A transaction that writes keeps a lock on it: where one stays open, the table
 * goes on owning it, and nothing but such scripts minds. Version 1's nodes do not find a sequence that is not owned, and read as a role
 * does that may not know its value.
 */
const disownSequence = ({ logSequence }: Names): string => {
  const body = `
BEGIN
  ALTER SEQUENCE ${logSequence.sql} OWNED BY NONE;
EXCEPTION WHEN lock_not_available THEN NULL;
END`;
  return `DO ${quoteLiteral(body)}`;
};

const MIGRATIONS: readonly Migration[] = [
  {
    to: 2,
    summary: 'the lock table keeps the version, and the options of the node that installed last',
    sql: ({ lockTable }) => [
      `ALTER TABLE ${lockTable.sql} ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1, ADD COLUMN IF NOT EXISTS options jsonb`,
    ],
  },
  {
    to: 3,
    summary: 'the lock table knows which installation it belongs to; no table owns the sequence of the log',
    sql: (names) => [
      // A default that is there from the beginning would rewrite the table.
      `ALTER TABLE ${names.lockTable.sql} ADD COLUMN IF NOT EXISTS installation uuid`,
      `ALTER TABLE ${names.lockTable.sql} ALTER COLUMN installation SET DEFAULT pg_catalog.gen_random_uuid()`,
      `UPDATE ${names.lockTable.sql} SET installation = DEFAULT WHERE installation IS NULL`,
      `ALTER TABLE ${names.lockTable.sql} ALTER COLUMN installation SET NOT NULL`,
      disownSequence(names),
    ],
  },
  {
    to: 4,
    summary:
      'the log can hold the rows themselves, and what a transaction says of itself; tables for changes that failed and that were parked',
    // The tables are made as any that are missing, and the columns by a step of their own, `addLogColumns`.
    sql: () => [],
  },
  {
    to: 5,
    summary: 'the table of failures keeps how long each change waits',
    // Nodes of version 4 leave it empty, or as it is: then the wait ends at `next_at`, or earlier.
    sql: ({ failedTable }) => [
      `ALTER TABLE ${failedTable.sql} ADD COLUMN IF NOT EXISTS delay double precision`,
    ],
  },
];

/**
 * Adds the columns of version 4 to a log of an earlier one. That takes the log's strongest lock, which waits for every open transaction that
 * has written to a watched table. So it is a step of its own, without which everything works that needs no such column, and that
 * is tried again like the step of a locked table. It is one statement, since all writers wait until the client has sent the rest of the step.
 */
export const addLogColumns = ({ logTable }: Names): string[] => [
  `ALTER TABLE ${logTable.sql} ${[
    ...ADDED_COLUMNS.map((column) => `ADD COLUMN IF NOT EXISTS ${column} text`),
    ...LOG_COLUMN_SETTINGS,
  ].join(', ')}`,
];

/** The steps that lead from a version to this package's. */
export const migrationsFrom = (version: number): readonly Migration[] =>
  MIGRATIONS.filter(({ to }) => to > version);

/** The statements of the steps, and those that note the version. */
export const migrate = (names: Names, migrations: readonly Migration[]): string[] =>
  migrations.length === 0
    ? []
    : [
        // The nodes' statements lock it before the other tables.
        `LOCK TABLE ${names.lockTable.sql} IN ACCESS EXCLUSIVE MODE`,
        ...migrations.flatMap((migration) => migration.sql(names)),
        `ALTER TABLE ${names.lockTable.sql} ALTER COLUMN version SET DEFAULT ${VERSION}`,
        `UPDATE ${names.lockTable.sql} SET version = ${VERSION}`,
      ];

/** The first line of every function. */
export const versionLine = (version: number): string => `-- dapper-postgres-input, version ${version}`;

/** A POSIX regular expression for the text of a function, whose group is the version in its first line. */
export const VERSION_LINE = String.raw`^\s*-- dapper-postgres-input, version (\d+)`;

/** The database was installed by a package that is newer than this one. */
export class NewerVersionError extends PostgresInputError {
  constructor(id: string, version: number) {
    super(
      'ERR_INSTALL',
      `input ${id} was installed by a newer version of this package, which made version ${version} of its objects ` +
        `(this one makes version ${VERSION}): update this node`,
    );
  }
}

/**
 * What a node had joined is no longer there: it was removed, and perhaps installed anew. The node ends its life. It joins again when the
 * input is installed, and does not install it by itself: it was removed on purpose.
 */
export class RemovedError extends PostgresInputError {
  constructor({ id, lockTable }: Names, cause?: unknown) {
    super(
      'ERR_INSTALL',
      `input ${id} was uninstalled while this node was running, or the lease's row is missing in ${lockTable.sql}: install it again, and ` +
        'call handle() again, or use its option reconnect',
      { cause, retryable: true },
    );
  }
}

/** The log was made by a commit from before version 0.1.0. Nobody can tell which: its sequences may name other rows. */
export const tooOld = (id: string): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `the change log of input ${id} is older than version 0.1.0 and can't be migrated: let its nodes finish what is in it, ` +
      'run uninstall, then install',
  );
