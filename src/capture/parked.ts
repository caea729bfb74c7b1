/** The changes that were parked: what any session may do with them, whether or not a node is active. */
import { PostgresInputError } from '../api/errors.ts';
import { type Session, isoOf } from '../postgres/session.ts';
import { type LogRow, Unpacker, parseSequence } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type Change, changeOf } from './change.ts';
import { failuresSql } from './failures-sql.ts';
import { refusedClearly } from './failures.ts';
import type { RowShapes } from './row-shapes.ts';

export interface ParkedChange {
  readonly change: Change;
  readonly attempts: number;
  readonly error: string;
  /** ISO 8601. */
  readonly parkedAt: string;
}

type ParkedRow = [...LogRow, attempts: number, error: string, parkedAt: string];

/** In the order of their sequences, after one of them. @throws {PostgresInputError} ERR_INSTALL */
export async function listParked(
  session: Session,
  names: Names,
  shapes: RowShapes | null,
  { limit, after }: { readonly limit: number; readonly after: string | null },
): Promise<ParkedChange[]> {
  const unpacker = new Unpacker(changeOf);
  const changes: Change[] = [];
  const details: Omit<ParkedChange, 'change'>[] = [];
  await refusedClearly(() =>
    session.eachRow<ParkedRow>(failuresSql(names).parked, [limit, after], (row) => {
      unpacker.unpack(row, changes);
      const [attempts, error, parkedAt] = row.slice(-3) as [number, string, string];
      details.push({ attempts, error, parkedAt: isoOf(parkedAt) });
    }),
  );
  await shapes?.resolve(changes);
  return changes.map((change, i) => ({ change, ...details[i]! }));
}

/** @throws {PostgresInputError} ERR_INSTALL */
export async function countParked(session: Session, names: Names): Promise<number> {
  const [row] = await refusedClearly(() => session.query<{ parked: number }>(failuresSql(names).countParked));
  return row!.parked;
}

/** Puts parked changes back into the log. Returns their number. @throws {PostgresInputError} ERR_INSTALL */
export const redriveParked = (session: Session, names: Names, which: readonly string[] | 'all') =>
  change(session, failuresSql(names).redrive, which);

/** Drops parked changes for good. Returns their number. @throws {PostgresInputError} ERR_INSTALL */
export const discardParked = (session: Session, names: Names, which: readonly string[] | 'all') =>
  change(session, failuresSql(names).discard, which);

async function change(
  session: Session,
  statement: ReturnType<typeof failuresSql>['redrive'],
  which: readonly string[] | 'all',
): Promise<number> {
  const [row] = await refusedClearly(() =>
    session.query<{ count: number }>(statement, [which === 'all' ? null : which]),
  );
  return row!.count;
}

/** @throws {PostgresInputError} ERR_CONFIG_INVALID */
export function checkedChoice(which: unknown, call: string): readonly string[] | 'all' {
  if (which === 'all') return which;
  if (Array.isArray(which) && which.every((sequence) => parseSequence(sequence) !== null))
    return which as string[];
  throw new PostgresInputError(
    'ERR_CONFIG_INVALID',
    `${call} takes the sequences of parked events, which are strings of digits, in an array; or 'all'`,
  );
}
