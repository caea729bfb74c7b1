/**
 * The state of an input, read from the tables that are there. Another version of this package may have made the tables, and
 * somebody may have dropped one. Commands that look at an input or remove it have to work then too, so a table that this
 * version can't read becomes a part of the result.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { SharedStatus } from '../api/status.ts';
import { readBacklog, readLease } from '../node/status.ts';
import type { Session } from '../postgres/session.ts';
import { isMisfit, isPrivilegeError } from '../postgres/sqlstates.ts';
import type { Names, ObjectName } from '../schema/names.ts';
import { type Plan, plan } from '../schema/plan.ts';
import type { ConnectedInput } from './input.ts';
import { plural } from './output.ts';

/** In milliseconds. If a change is older than this, its consumer does not keep up or has not acknowledged it. */
export const OLD = 60_000;

export interface InputState {
  /** Null if no node holds the lease, or if the lock table is missing or unreadable. */
  readonly lease: SharedStatus['lease'];
  /** How many changes are not acknowledged. An unreadable log holds at least so many. */
  readonly backlog: number;
  readonly oldestChangeAt: string | null;
  readonly unreadable: readonly UnreadableTable[];
}

/** A table that exists, and why the statements of this version do not fit it. */
export interface UnreadableTable {
  readonly table: string;
  readonly reason: string;
}

/** `tables`: the internal tables that exist. */
export async function readState(
  { session, names }: Pick<ConnectedInput, 'session' | 'names'>,
  tables: readonly string[],
): Promise<InputState> {
  const unreadable: UnreadableTable[] = [];
  const read = async <Result>(
    { name }: ObjectName,
    reading: () => Promise<Result>,
    absent: Result,
    otherwise: () => Promise<Result>,
  ): Promise<Result> => {
    if (!tables.includes(name)) return absent;
    try {
      return await reading();
    } catch (error) {
      if (!isMisfit(error)) throw error;
      unreadable.push({ table: name, reason: (error as Error).message });
      return otherwise();
    }
  };
  const lease = await read(
    names.lockTable,
    () => readLease(session, names),
    null,
    async () => null,
  );
  const waiting = await read(
    names.logTable,
    () => readBacklog(session, names),
    { backlog: 0, oldestChangeAt: null },
    async () => ({ backlog: await countRows(session, names), oldestChangeAt: null }),
  );
  return { lease, ...waiting, unreadable };
}

/** Null if the role in use may not read the tables. */
export async function readStateIfAllowed(
  input: Pick<ConnectedInput, 'session' | 'names'>,
  tables: readonly string[],
): Promise<InputState | null> {
  try {
    return await readState(input, tables);
  } catch (error) {
    if (isPrivilegeError(error)) return null;
    throw error;
  }
}

/** A row of the log holds one change or more, in every version. */
async function countRows(session: Session, { logTable }: Names): Promise<number> {
  const [row] = await session.query<{ rows: number }>(`SELECT count(*)::float8 AS rows FROM ${logTable.sql}`);
  return row!.rows;
}

export const isUnreadable = ({ unreadable }: InputState, { name }: ObjectName): boolean =>
  unreadable.some(({ table }) => table === name);

/** The backlog in words: `2 changes`. */
export const changesOf = (state: InputState, { logTable }: Names): string =>
  `${isUnreadable(state, logTable) ? 'at least ' : ''}${plural(state.backlog, 'change')}`;

/** The plan for an input, or the reason why this version makes none for the objects that are installed. */
export type PlanOrRefusal =
  | { readonly plan: Plan; readonly refusal: null }
  | { readonly plan: null; readonly refusal: string };

export async function planOrRefusal({ session, settings, names }: ConnectedInput): Promise<PlanOrRefusal> {
  try {
    return { plan: await plan(session, settings, names), refusal: null };
  } catch (error) {
    if (!(error instanceof PostgresInputError) || error.code !== 'ERR_INSTALL') throw error;
    return { plan: null, refusal: error.message };
  }
}

/** The age of `time` in milliseconds, by the database's clock, which wrote the time. */
export async function ageOf(session: Session, time: string | null): Promise<number | null> {
  const [row] = await session.query<{ age: number | null }>(
    'SELECT (extract(epoch FROM clock_timestamp() - $1::timestamptz) * 1000)::float8 AS age',
    [time],
  );
  const { age } = row!;
  return age === null ? null : Math.round(age);
}
