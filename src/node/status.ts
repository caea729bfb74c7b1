/** How things stand in the database: who holds the lease, and what waits. */
import { changeLogSql } from '../capture/change-log-sql.ts';
import type { Installation } from '../schema/install.ts';
import { leaseSql } from './lease-sql.ts';
import type { Names } from '../schema/names.ts';
import { PostgresInputError } from '../api/errors.ts';
import { type Session, isoOf } from '../postgres/session.ts';

/** What an input is doing. */
export type InputState = 'idle' | 'standby' | 'active' | 'closed';

/** The part of the status that any node can read. */
export interface SharedStatus {
  /** Who holds the lease, and since when; null when nobody does. */
  readonly lease: {
    /** A random name that the holder gave itself. */
    readonly holder: string;
    readonly fencingToken: string;
    /** ISO 8601, as the database tells the time. */
    readonly acquiredAt: string;
  } | null;
  /** Changes that are not acknowledged. */
  readonly backlog: number;
  /** When the oldest of them was written, ISO 8601; null when there is none. */
  readonly oldestChangeAt: string | null;
}

/** How an input stands. */
export interface InputStatus extends SharedStatus, Installation {
  readonly id: string;
  readonly state: InputState;
  /** Events handed out and not yet acknowledged. */
  readonly inFlight: number;
  /** Notifications that claimed to be of our triggers and were not. */
  readonly forgedNotifications: number;
  /** Notifications that were skipped because of `foreignNotifications: 'ignore'`. */
  readonly ignoredNotifications: number;
}

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
    'SELECT pg_catalog.to_regclass($1) IS NOT NULL AND pg_catalog.to_regclass($2) IS NOT NULL AS exists',
    [names.lockTable.sql, names.logTable.sql],
  );
  if (!found?.exists) {
    throw new PostgresInputError(
      'ERR_INSTALL',
      'nothing of this input is installed in this database: call handle() first, or run the command install',
    );
  }
  const [lease] = await session.query<LeaseRow>(leaseSql(names).observe);
  const [waiting] = await session.query<{ backlog: number; oldest: string | null }>(
    changeLogSql(names).backlog,
    [],
    COUNT_TIMEOUT,
  );
  const holder = lease && !lease.expired && !lease.dead ? lease.holder : null;
  return {
    lease:
      lease && holder !== null
        ? { holder, fencingToken: lease.token, acquiredAt: isoOf(lease.acquiredAt) }
        : null,
    backlog: waiting!.backlog,
    oldestChangeAt: waiting!.oldest === null ? null : isoOf(waiting!.oldest),
  };
}
