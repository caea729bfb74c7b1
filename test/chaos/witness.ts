import { TRUE_TIME } from './clock.ts';

/**
 * Triggers of the test's own on the internal tables, which write down who held the lease when and who acknowledged
 * what, in the very transactions in which that happened. They know the tables' columns, and that a row with a size holds so
 * many changes, with the sequences after its own, which are put back when the row is deleted without them. A change's public sequence has
 * the time after the number, in microseconds.
 */
export const LOG_TABLE = 'postgres_input.log_postgres_input_chaos_input';
export const LOCK_TABLE = 'postgres_input.lock_postgres_input_chaos_input';

/** The server has lost the claim, and nobody but the node has told of it. */
export const UNTOLD = 'a way that the server has lost';

/** A node's name is the application_name of its connections. */
export interface Claim {
  readonly token: string;
  readonly node: string;
  /** Milliseconds since 1970, as Date.now() in the nodes on the same machine. */
  readonly at: number;
  /** How the lease was come by. */
  readonly wonBy: 'released' | 'expired' | 'dead' | typeof UNTOLD;
}

export interface Acknowledgement {
  readonly sequence: string;
  /** Who deleted it. */
  readonly node: string;
  /** The token of the lease at that moment, null if nobody held it; in a consumer's transaction, the token of the event. */
  readonly token: string | null;
  /** Whether the consumer did so in a transaction of its own. */
  readonly inTransaction: boolean;
}

/** What a consumer did for an event, in the transaction that acknowledged the event. */
export interface Booking {
  readonly sequence: string;
  readonly token: string;
  readonly node: string;
}

/** A change that was put out of the way. */
export interface Parked {
  readonly sequence: string;
  readonly attempts: number;
  readonly error: string;
}

/** What the application_name of a consumer's own connections has after the node's name. */
export const CALLER = ' caller';
/** $1: sequence. $2: token. $3: the node's name. */
export const BOOK = 'INSERT INTO oracle.booking VALUES ($1, $2, $3)';

/** To be run before anything is written. */
export const MARKS = 'CREATE SCHEMA oracle; CREATE TABLE oracle.mark (name text PRIMARY KEY)';

/** To be run once the internal tables are there. */
export const WITNESSES = `
CREATE TABLE oracle.claim (token bigint, node text, at timestamptz, won_by text);
CREATE TABLE oracle.acknowledged (sequence text, node text, token bigint);
CREATE TABLE oracle.booking (sequence text, token bigint, node text);
CREATE INDEX ON oracle.booking (sequence);
CREATE FUNCTION oracle.on_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO oracle.claim VALUES (NEW.token, current_setting('application_name'), ${TRUE_TIME},
    CASE WHEN OLD.holder IS NULL THEN 'released'
      WHEN EXISTS (SELECT FROM pg_stat_activity WHERE pid = OLD.backend_pid AND backend_start = OLD.backend_start) THEN 'expired'
      ELSE 'dead' END);
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
export const READ_ACKNOWLEDGEMENTS = `
SELECT sequence, left(a.node, -${CALLER.length}) AS node, b.token::text, true AS "inTransaction"
FROM oracle.acknowledged a LEFT JOIN oracle.booking b USING (sequence) WHERE a.node LIKE '%${CALLER}'
UNION ALL
SELECT sequence, node, token::text, false FROM oracle.acknowledged WHERE node NOT LIKE '%${CALLER}'`;
export const READ_PARKED =
  'SELECT sequence, attempts, error FROM postgres_input.parked_postgres_input_chaos_input';
export const READ_BOOKINGS = 'SELECT sequence, token::text, node FROM oracle.booking';
