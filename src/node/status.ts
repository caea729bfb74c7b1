/** How things stand in the database: who holds the lease, and what waits. */
import { PostgresInputError } from '../api/errors.ts';
import type { SharedStatus } from '../api/status.ts';
import { changeLogSql } from '../capture/change-log-sql.ts';
import { type Session, isoOf } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { leaseSql } from './lease-sql.ts';

interface LeaseRow {
  readonly token: string;
  readonly holder: string | null;
  readonly acquiredAt: string;
  readonly expired: boolean;
  readonly dead: boolean;
}

/** For counting a backlog of many millions, in milliseconds. */
const COUNT_TIMEOUT = 60_000;

/** @throws {PostgresInputError} ERR_INSTALL */
export async function readStatus(session: Session, names: Names): Promise<SharedStatus> {
  const [found] = await session.query<{ exists: boolean }>(
    'SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL AS exists',
    [names.lockTable.sql, names.logTable.sql],
  );
  if (!found?.exists) throw nothingInstalled();
  return { lease: await readLease(session, names), ...(await readBacklog(session, names)) };
}

export const nothingInstalled = (): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    'nothing of this input is installed in this database: call handle() first, or run the command install',
  );

// Both statements run without their names, under which the server would keep them prepared for one input: a session may ask
// for several inputs.

export async function readLease(session: Session, names: Names): Promise<SharedStatus['lease']> {
  const [lease] = await session.query<LeaseRow>(leaseSql(names).observe.text);
  if (!lease || lease.holder === null || lease.expired || lease.dead) return null;
  return { holder: lease.holder, fencingToken: lease.token, acquiredAt: isoOf(lease.acquiredAt) };
}

export async function readBacklog(
  session: Session,
  names: Names,
): Promise<Pick<SharedStatus, 'backlog' | 'oldestChangeAt'>> {
  const [waiting] = await session.query<{ backlog: number; oldest: string | null }>(
    changeLogSql(names).backlog.text,
    [],
    COUNT_TIMEOUT,
  );
  const { backlog, oldest } = waiting!;
  return { backlog, oldestChangeAt: oldest === null ? null : isoOf(oldest) };
}
