/** The statements of the lease. They use the database's clock, never the node's. */
import type { Statement } from '../postgres/session.ts';
import { LEASE_RESOURCE, type Names, type ObjectName } from '../schema/names.ts';

export interface LeaseSql {
  readonly observe: Statement;
  readonly claim: Statement;
  readonly claimPooled: Statement;
  readonly renew: (asked: string) => Statement;
  readonly release: Statement;
}

const OWN_SESSION = 'SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()';

/**
 * A pooled backend outlives the node, or is gone while the node lives. So the row names a process that lives as long as the server, and standbys
 * of every version wait for the expiry. A role without rights on statistics sees the processes, but neither what they are nor when they began.
 */
const SERVER_PROCESS = `
  SELECT pid, backend_start FROM pg_stat_activity WHERE datid IS NULL AND usesysid IS NULL
  ORDER BY backend_type = 'checkpointer' DESC NULLS LAST, pid LIMIT 1`;

/** `alive`: the process without which the holder counts as gone. */
const claim = ({ sql }: ObjectName, alive: string): string => `
UPDATE ${sql} SET holder = $1,
  token = greatest(token + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
  acquired_at = clock_timestamp(),
  expires_at = clock_timestamp() + $3::float8 * interval '1 millisecond',
  (backend_pid, backend_start) = (${alive})
WHERE resource = ${LEASE_RESOURCE} AND token = $2 AND expires_at IS NOT DISTINCT FROM $4::timestamptz
RETURNING token`;

export const leaseSql = ({ lockTable }: Names): LeaseSql => ({
  /** Who holds the lease, for how long, and whether the session that claimed it is gone. A pooled holder may not know when its process began. */
  observe: {
    name: 'lease_observe',
    text: `
SELECT l.token, l.holder, l.acquired_at AS "acquiredAt", l.expires_at AS "expiresAt",
  l.holder IS NULL OR l.expires_at <= clock_timestamp() AS expired,
  l.holder IS NOT NULL AND l.backend_start IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_stat_activity a
    -- the server hides the backend_start of another role's session
    WHERE a.pid = l.backend_pid AND (a.backend_start = l.backend_start OR a.backend_start IS NULL)
  ) AS dead,
  coalesce(extract(epoch FROM l.expires_at - clock_timestamp()) * 1000, 0)::float8 AS remaining,
  -- whatever columns there are: the table may be of another version
  coalesce((to_jsonb(l) ->> 'version')::int, 1) AS version,
  to_jsonb(l) ->> 'installation' AS installation
FROM ${lockTable.sql} l WHERE l.resource = ${LEASE_RESOURCE}`,
  },
  /**
   * $1: holder. $2: the token observed. $3: milliseconds. $4: the expiry observed. It fails if the lease was claimed, renewed or released
   * since it was observed.
   *
   * The token is a time in microseconds where that is more than one above the last token. So it also rises if the server lost the last
   * claims, and the tokens of two databases or of two installations differ.
   */
  claim: { name: 'lease_claim', text: claim(lockTable, OWN_SESSION) },
  /** The same for a node whose backend is a pooler's. */
  claimPooled: { name: 'lease_claim_pooled', text: claim(lockTable, SERVER_PROCESS) },
  /** $1: holder. $2: token. $3: milliseconds. Returns what is asked, a select list, if the lease is held. */
  renew: (asked) => ({
    name: 'lease_renew',
    text: `
UPDATE ${lockTable.sql} SET expires_at = clock_timestamp() + $3::float8 * interval '1 millisecond'
WHERE resource = ${LEASE_RESOURCE} AND holder = $1 AND token = $2
RETURNING ${asked}`,
  }),
  /** $1: holder. $2: token. $3: the nodes' channel. $4: the message that the lease was released, or null to tell nobody. */
  release: {
    name: 'lease_release',
    text: `
WITH released AS (
  UPDATE ${lockTable.sql} SET holder = NULL, expires_at = NULL, backend_pid = NULL, backend_start = NULL
  WHERE resource = ${LEASE_RESOURCE} AND holder = $1 AND token = $2
  RETURNING token
)
SELECT CASE WHEN $4::text IS NOT NULL THEN pg_notify($3, $4) END FROM released`,
  },
});
