/** The settings that a session makes for itself, and the statements that make them. */
import { quoteLiteral } from './quoting.ts';

/** How much longer than the node the server waits for a statement, in milliseconds: the node is to give up first. */
const GRACE = 1000;

/**
 * A session's own settings, whatever role and database are set to. A crash of the server may lose no claim and
 * no acknowledgement. The planner is to walk an index in every statement, although the statistics may be those of a table that was
 * empty a minute ago. So parameters change no plan, and a statement is planned once: to plan a page costs as much as to read half of it. The keepalives have the server free the
 * session of a node that vanished, and the session's locks.
 */
const OF_STATEMENTS = {
  client_encoding: 'UTF8',
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  search_path: 'pg_catalog',
  quote_all_identifiers: 'off',
  standard_conforming_strings: 'on',
  synchronous_commit: 'on',
  lock_timeout: '0',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_sort: 'off',
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
  max_parallel_workers_per_gather: '0',
};

const OF_SESSIONS = {
  ...OF_STATEMENTS,
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '3',
};

/**
 * Sets names ($1) to values ($2) in the session of one backend ($3). Another backend belongs to a pooler's other clients. A server that does not know a
 * setting, since it is older, is left without it.
 */
const SET_ALL = `
SELECT pg_catalog.set_config(name, value, false)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS s (name, value)
WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) $3 AND pg_catalog.current_setting(name, true) IS NOT NULL`;

/** Makes the settings if the statement runs in the process `backend`; returns no row if it does not. */
export function settingsFor(backend: number, timeout: number): { text: string; values: unknown[] } {
  const settings = { ...OF_SESSIONS, statement_timeout: String(timeout + GRACE) };
  return { text: SET_ALL, values: [Object.keys(settings), Object.values(settings), backend] };
}

/** Changes the limit on the session's statements; milliseconds. */
export const statementTimeout = (timeout: number): string => `SET statement_timeout = ${timeout + GRACE}`;

/** The same for the rest of the transaction. */
export const localStatementTimeout = (timeout: number): string =>
  `SET LOCAL statement_timeout = ${timeout + GRACE}`;

/** Begins a transaction as a session with these settings does, whatever the backend's defaults are. */
export const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE';

/** Sets names ($1) to values ($2) for the transaction, and returns no row. */
const SET_LOCALLY = `
SELECT FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS s (name, value)
WHERE pg_catalog.set_config(name, value, true) IS NULL`;

const array = (texts: readonly string[]): string => `{${texts.join(',')}}`;

/** Makes the settings for the transaction that is open. */
export function setLocally(timeout: number): { text: string; values: string[] } {
  const settings = { ...OF_STATEMENTS, statement_timeout: String(timeout + GRACE) };
  return { text: SET_LOCALLY, values: [array(Object.keys(settings)), array(Object.values(settings))] };
}

/** The same as statements without values. They take no snapshot, so that what follows may lock before it takes one. */
export const localSettings = (timeout: number): string[] =>
  Object.entries({ ...OF_STATEMENTS, statement_timeout: String(timeout + GRACE) }).map(
    ([name, value]) => `SET LOCAL ${name} = ${quoteLiteral(value)}`,
  );
