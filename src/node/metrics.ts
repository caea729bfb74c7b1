import type { SharedMetrics } from '../api/status.ts';
import { refusedClearly } from '../capture/failures.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { readBacklog } from './status.ts';

/** @throws {PostgresInputError} ERR_INSTALL */
export async function readMetrics(session: Session, names: Names): Promise<SharedMetrics> {
  return refusedClearly(async () => {
    const { backlog, oldestChangeAt } = await readBacklog(session, names);
    const [row] = await session.query<Omit<SharedMetrics, 'backlog'>>(
      `SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8 AS "oldestAgeSeconds",
         (SELECT count(*)::int FROM ${names.failedTable.sql} WHERE attempts > 0) AS retrying,
         (SELECT count(*)::int FROM ${names.parkedTable.sql}) AS parked`,
      [oldestChangeAt],
    );
    return { backlog, ...row! };
  }, "the events that wait can't be counted");
}
