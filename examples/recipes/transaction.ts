import { PostgresInputError } from 'dapper-postgres-input';
import type pg from 'pg';

/**
 * Runs `work` in a transaction. Nothing is committed, and nothing is thrown, if another node has the event by now: `ack` in `work` finds that
 * out. Any other error ends the program, and the event comes again, here or elsewhere.
 */
export async function inTransaction(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<void>) {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await work(client);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    const isTakenOver = error instanceof PostgresInputError && error.code === 'ERR_LEASE_LOST';
    if (!isTakenOver) throw error;
  } finally {
    client.release();
  }
}
