/**
 * The clock of a database, which can be set. PostgreSQL's function is renamed, and another one takes its name and adds what a table says: so
 * every statement that asks for the time of the database gets a time that jumps, in the same moment in all sessions.
 */

/** SQL: the time that the other machines of a run have as well. */
export const TRUE_TIME = 'true_clock_timestamp()';

/** To be run before anything is installed, as a superuser. */
export const CLOCK = `
CREATE TABLE oracle.clock (ahead interval NOT NULL);
INSERT INTO oracle.clock VALUES ('0');
ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp;
CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN
  RETURN pg_catalog.${TRUE_TIME} + (SELECT ahead FROM oracle.clock);
END $$`;

/** $1: how far the clock shall be ahead, in milliseconds; less than 0: behind. */
export const SET_CLOCK = "UPDATE oracle.clock SET ahead = $1::float8 * interval '1 millisecond'";
