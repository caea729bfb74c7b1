/**
 * Proves that a caller's client has a transaction open. Without one, an acknowledgement would be committed by itself, before what the caller
 * does for the event, and the event would be lost if that failed; and tags would be gone before the next statement.
 */
import type pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import { isOutsideTransaction } from '../postgres/sqlstates.ts';

/** Fails outside a transaction, and leaves nothing behind inside one. */
const PROOF = 'SAVEPOINT postgres_input; RELEASE SAVEPOINT postgres_input';

/**
 * The client knows the state from the server's last answer, which costs nothing. If it says that no transaction is open, a BEGIN may
 * still be under way, and some clients do not know: then the server is asked.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID. Otherwise the client's own errors.
 */
export async function proveTransaction(client: pg.ClientBase | pg.Pool, call: string): Promise<void> {
  // Each query of a pool may run on another connection.
  if ('idleCount' in client) throw notInTransaction('a pool', call);
  // A version of pg older than ours, or a wrapper, may not have the method.
  const known: Partial<pg.ClientBase> = client;
  if (known.getTransactionStatus?.() === 'T') return;
  try {
    await client.query(PROOF);
  } catch (error) {
    throw isOutsideTransaction(error)
      ? notInTransaction('a client without an open transaction', call)
      : error;
  }
}

const notInTransaction = (what: string, call: string): PostgresInputError =>
  new PostgresInputError(
    'ERR_CONFIG_INVALID',
    `${call} is of use within a transaction alone, and was called with ${what}: call BEGIN on a client before`,
  );
