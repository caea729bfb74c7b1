/**
 * Tells a pooler in transaction mode from everything that keeps a session: a server, a TCP proxy, a pooler in session
 * mode. A pooler in transaction mode gives each transaction any idle backend. What a session sets there would stay
 * behind for the application's transactions, so nothing may be set before the connection is known to keep its backend.
 *
 * - A server greets a client with the process id of the client's backend. A connection whose statements run in that
 *   process goes to the server itself, and needs no further question. (Poolers make up the process id.)
 * - Behind any other greeting, a second client is connected. In session mode, each of the two keeps a backend of its
 *   own. In transaction mode, they meet on one backend or move to another: at once if the pool is quiet, by chance if it
 *   is busy. These questions leave nothing behind.
 * - Two clients that never meet may have been sent to different poolers. So the last proof is a notification, which only
 *   a client that keeps its backend receives while it asks nothing. A failure of this proof leaves one LISTEN behind.
 *
 * A connection about which this cannot be found out is refused.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import { quoteIdentifier } from './quoting.ts';

const ADVICE = 'connect to the server itself or through a pooler in session mode';

export const sharedBackend = (): PostgresInputError =>
  new PostgresInputError(
    'ERR_CONNECT',
    `the connection goes through a pooler in transaction mode, which keeps no session: ${ADVICE}, or let the node poll, by its option wakeup`,
  );

/**
 * The process id of a client's backend. RDS Proxy dedicates a backend to the client that has called a lock function there
 * (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-pinning.html), so the statement takes a lock and
 * frees it at once. For everybody else the lock has no meaning.
 */
const BACKEND = `
SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.pg_try_advisory_lock(key), pg_catalog.pg_advisory_unlock(key)
FROM (SELECT $1::pg_catalog.int8) AS random (key)`;

/**
 * How often both clients look whether they still have backends of their own. One look is enough if the pool is quiet. In
 * a busy pool, single looks missed one pooler in three, and four missed one in a thousand.
 */
const LOOKS = 4;

/**
 * The process id of the backend that `client` keeps.
 *
 * @param rival a client of the same address that is not connected yet; to hang up is left to the caller
 * @param left how many milliseconds are left; at least 1
 * @throws {PostgresInputError} ERR_CONNECT if the backend is shared, or if this can't be found out
 */
export async function proveBackend(client: pg.Client, rival: pg.Client, left: () => number): Promise<number> {
  const ask = async (asked: pg.Client, text: string, values: unknown[] = []) => {
    // pg's query_timeout is missing in its types.
    const timed = { text, values, query_timeout: left() };
    return (await asked.query(timed)).rows;
  };
  const backendOf = async (asked: pg.Client): Promise<number> =>
    (await ask(asked, BACKEND, [randomBytes(8).readBigInt64BE()]))[0].pid;
  try {
    const own = await backendOf(client);
    await rival.connect();
    const rivals = await backendOf(rival);
    for (let look = 0; look < LOOKS; look++) {
      if (rivals === own || (await backendOf(rival)) !== rivals || (await backendOf(client)) !== own)
        throw sharedBackend();
    }

    const channel = quoteIdentifier(`dapper_postgres_input_${randomUUID()}`);
    await ask(client, `LISTEN ${channel}`);
    const heard = once(client, 'notification', { signal: AbortSignal.timeout(left()) }).catch((cause) => {
      throw new Error('a notification did not arrive in time', { cause });
    });
    await Promise.all([heard, ask(rival, `NOTIFY ${channel}`)]);
    await ask(client, `UNLISTEN ${channel}`);
    return own;
  } catch (cause) {
    if (cause instanceof PostgresInputError) throw cause;
    throw new PostgresInputError(
      'ERR_CONNECT',
      `whether a pooler keeps a session for this connection could not be found out (${(cause as Error).message}): ` +
        `${ADVICE} that has a second connection to give, or raise connectTimeout`,
      { cause },
    );
  }
}
