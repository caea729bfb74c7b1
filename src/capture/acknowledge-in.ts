/** Acknowledgements in a caller's own transaction: what the transaction does for an event happens exactly once. */
import { inspect } from 'node:util';
import type pg from 'pg';
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import {
  BACKFILL_DIGITS,
  type NamedChange,
  isReadSequence,
  numberOf,
  parseSequence,
  redriven,
  writtenRow,
} from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { acknowledgementsSql } from './acknowledgements-sql.ts';
import { leaseLost } from './acknowledgements.ts';
import { backfillSql } from './backfill-sql.ts';
import { array } from './named-rows.ts';

/** What an event says of the change that it stands for, and of the term that handed it out. */
export interface NamedEvent extends NamedChange {
  readonly token: string;
}

/** What this node's present term knows of the event of a row that a backfill has read. */
export interface TermReads {
  /** Whether it is out in this term, and not acknowledged. */
  noteRead(): boolean;
  /** Whether the term has the lease, as the database says now. */
  isLeaseHeld(): Promise<boolean>;
}

const NO_READS: TermReads = { noteRead: () => false, isLeaseHeld: async () => false };

/**
 * What the event says of its change. Events may have been stored and read again, by means that round long numbers.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID
 */
export function namedBy({ sequence, fencingToken, occurredAt }: ChangeEvent): NamedEvent {
  const named = parseSequence(sequence);
  if (
    named &&
    typeof fencingToken === 'string' &&
    /^\d+$/.test(fencingToken) &&
    BigInt(fencingToken) < 2n ** 63n
  )
    // The sequence of a row that a backfill has read does not say when it was read.
    return { seq: named.seq, at: isReadSequence(named.seq) ? occurredAt : named.at, token: fencingToken };
  throw new PostgresInputError(
    'ERR_CONFIG_INVALID',
    `the event is damaged: sequence and fencingToken are strings of digits, and not ${inspect(sequence)} and ${inspect(fencingToken)}; ` +
      'acknowledge it as it was handed out',
  );
}

/**
 * Acknowledges the event in the caller's transaction, so that it is gone if and only if that transaction commits. `unpack` replaces a packed
 * row of the log by single ones, outside that transaction.
 * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECT
 */
export async function acknowledgeIn(
  client: pg.ClientBase,
  names: Names,
  event: NamedEvent,
  unpack: (row: string) => Promise<void>,
  reads: TermReads = NO_READS,
): Promise<void> {
  if (!isReadSequence(event.seq)) await deleteChange(client, names, event, unpack);
  else if (reads.noteRead()) {
    const isolation = await insertRead(client, names, event);
    // After a takeover, the row of another transaction may have been inserted, and deleted with its chunk, since this one's snapshot.
    if (isolation !== 'read committed' && !(await reads.isLeaseHeld())) throw leaseLost();
    // An earlier transaction of the caller's may have committed unnoticed, and its row may have been deleted with the chunk since.
    if (!reads.noteRead()) throw leaseLost();
  }
  // It may have been parked and redriven: then the log has it.
  else if (!(await deleteRows(client, names, event, redriven(numberOf(event.seq))))) throw leaseLost();
}

/** Deletes the change from the log. If the change is in a packed row, the row is unpacked before. */
async function deleteChange(
  client: pg.ClientBase,
  names: Names,
  event: NamedEvent,
  unpack: (row: string) => Promise<void>,
): Promise<void> {
  const { seq, token, at } = event;
  if (await deleteRows(client, names, event, seq, redriven(seq))) return;
  const row = writtenRow(seq);
  if (row === seq) throw leaseLost();
  // To unpack takes a session, which an event that was acknowledged long ago, or that came under another lease, is not worth.
  const { isPacked } = acknowledgementsSql(names);
  if ((await client.query(isPacked.text, [row, token, at])).rowCount !== 0) await unpack(row);
  if (!(await deleteRows(client, names, event, seq, row))) throw leaseLost();
}

/** Returns whether the log had one of these rows, and the lease is the one under which the event was handed out. */
async function deleteRows(
  client: pg.ClientBase,
  names: Names,
  { token, at }: NamedEvent,
  ...rows: readonly string[]
): Promise<boolean> {
  const { text } = acknowledgementsSql(names).acknowledgeInTransaction;
  return (await client.query(text, [array(rows), token, at])).rowCount !== 0;
}

/** Notes that the row's event is acknowledged, beside the progress of its backfill. Returns the transaction's isolation. */
async function insertRead(client: pg.ClientBase, names: Names, { seq, token }: NamedEvent): Promise<string> {
  const { acknowledgeInTransaction } = backfillSql(names);
  const values = [seq.slice(0, BACKFILL_DIGITS), seq, token];
  const [row] = (await client.query<{ isolation: string }>(acknowledgeInTransaction, values)).rows;
  if (!row) throw leaseLost();
  return row.isolation;
}
