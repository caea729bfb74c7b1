/**
 * Triggers of the test's own on the internal tables, which write down who held the lease when and who acknowledged
 * what, in the very transactions in which that happened. They know the tables' columns, and that a row with a size holds so
 * many changes, with the sequences after its own, which are put back when the row is deleted without them. A change's public sequence has
 * the time after the number, in microseconds.
 */
export const LOG_TABLE = 'postgres_input.log_postgres_input_chaos_input';
export const LOCK_TABLE = 'postgres_input.lock_postgres_input_chaos_input';

/** A node's name is the application_name of its connections. */
export interface Claim {
  readonly token: string;
  readonly node: string;
  /** Milliseconds since 1970, as Date.now() in the nodes on the same machine. */
  readonly at: number;
  /** How the lease was come by. */
  readonly wonBy: 'released' | 'expired' | 'dead';
}

export interface Acknowledgement {
  readonly sequence: string;
  /** Who deleted it. */
  readonly node: string;
  /** The token of the lease at that moment, null if nobody held it. */
  readonly token: string | null;
}

/** To be run before anything is written. */
export const MARKS = 'CREATE SCHEMA oracle; CREATE TABLE oracle.mark (name text PRIMARY KEY)';

/** To be run once the internal tables are there. */
export const WITNESSES = `
CREATE TABLE oracle.claim (token bigint, node text, at timestamptz, won_by text);
CREATE TABLE oracle.acknowledged (sequence text, node text, token bigint);
CREATE FUNCTION oracle.on_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO oracle.claim VALUES (NEW.token, current_setting('application_name'), clock_timestamp(),
    CASE WHEN OLD.holder IS NULL THEN 'released' WHEN OLD.expires_at <= clock_timestamp() THEN 'expired' ELSE 'dead' END);
  RETURN NULL;
END $$;
CREATE FUNCTION oracle.on_acknowledge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO oracle.acknowledged
  SELECT change.seq || CASE WHEN g.key IS NULL OR right(g.key, 1) <> ' ' THEN '' ELSE lpad((extract(epoch FROM g.at) * 1000000)::bigint::text, 16, '0') END, current_setting('application_name'), (SELECT token FROM ${LOCK_TABLE} WHERE holder IS NOT NULL)
  FROM gone g, generate_series(g.seq + sign(coalesce(g.size, 0))::int, g.seq + coalesce(g.size, 0)) change (seq)
  WHERE NOT EXISTS (SELECT FROM ${LOG_TABLE} WHERE seq = change.seq);
  RETURN NULL;
END $$;
INSERT INTO oracle.claim SELECT l.token, a.application_name, l.acquired_at, 'released'
FROM ${LOCK_TABLE} l JOIN pg_stat_activity a ON a.pid = l.backend_pid;
CREATE TRIGGER witness AFTER UPDATE ON ${LOCK_TABLE} FOR EACH ROW
  WHEN (NEW.token <> OLD.token) EXECUTE FUNCTION oracle.on_claim();
CREATE TRIGGER witness AFTER DELETE ON ${LOG_TABLE} REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION oracle.on_acknowledge()`;

export const READ_CLAIMS = `
SELECT c.token::text, node, extract(epoch FROM at)::float8 * 1000 AS at, won_by AS "wonBy" FROM oracle.claim c ORDER BY c.token`;
export const READ_ACKNOWLEDGEMENTS = 'SELECT sequence, node, token::text FROM oracle.acknowledged';
