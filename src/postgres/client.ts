/** pg's client, as a session uses it. */
import type { Socket } from 'node:net';
import pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import { INVALID_PASSWORD } from './sqlstates.ts';

type Parse = (text: string) => unknown;

/** The elements of an array of one dimension, as the server prints it. */
const arrayOf =
  (parse: Parse): Parse =>
  (text) =>
    Array.from(
      text.slice(text.indexOf('{')).matchAll(/"((?:[^"\\]|\\.)*)"|([^{},"]+)/gs),
      ([, quoted, bare]) =>
        quoted !== undefined
          ? parse(quoted.replaceAll(/\\(.)/gs, '$1'))
          : bare === 'NULL'
            ? null
            : parse(bare!),
    );
/** The role may have the other format, which is older. */
const bytes: Parse = (text) =>
  text.startsWith(String.raw`\x`) ? Buffer.from(text.slice(2), 'hex') : pg.types.getTypeParser(17)(text);
const integer: Parse = (text) => Number.parseInt(text, 10);

/**
 * The types that our statements return, by their oids. Times stay as printed: a Date would round them to milliseconds. The others are parsed as pg does by
 * itself, since the application may have set parsers of its own for all of pg, as it does with `pg.types.setTypeParser(20, BigInt)`.
 */
const PARSERS: ReadonlyMap<number, Parse> = new Map([
  [16, (text) => text === 't'], // boolean
  [17, bytes], // bytea
  [20, String], // bigint
  [21, integer], // smallint
  [23, integer], // integer
  [26, integer], // oid
  [25, String], // text
  [114, JSON.parse], // json
  [700, Number.parseFloat], // real
  [701, Number.parseFloat], // double precision
  [1005, arrayOf(integer)], // smallint[]
  [1007, arrayOf(integer)], // integer[]
  [1009, arrayOf(String)], // text[]
  [1016, arrayOf(String)], // bigint[]
  [1184, String], // timestamptz
  [3802, JSON.parse], // jsonb
] as [number, Parse][]);

const getTypeParser = ((oid: number, format?: 'text') =>
  PARSERS.get(oid) ?? pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser;

/** A client that is not connected yet, of a socket that the caller may destroy at any time. */
export const newClient = (
  endpoint: pg.ClientConfig,
  applicationName: string,
  connectTimeout: number,
  socket: Socket,
): pg.Client =>
  new pg.Client({
    ...endpoint,
    application_name: endpoint.application_name ?? applicationName,
    connectionTimeoutMillis: connectTimeout,
    keepAlive: true,
    stream: () => socket,
    types: { getTypeParser },
  });

/** Says goodbye, and waits for the server to hang up, but not for longer than `timeout`: it may be gone. */
export async function hangUp(client: pg.Client, socket: Socket, timeout: number): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), timeout);
  await client.end().catch(() => {});
  clearTimeout(timer);
}

/** Whether the server asked for a password and there was none: pg then sends an empty one, or gives up. */
export function lacksPassword(client: pg.Client, error: Error): boolean {
  const refused = 'code' in error && error.code === INVALID_PASSWORD;
  return !client.password && (refused || error.message.includes('client password must be'));
}

export const missingPassword = () =>
  new PostgresInputError(
    'ERR_CONNECT',
    'the server asks for a password, and none was given: put it into the connection string, into the environment ' +
      'variable PGPASSWORD, or into the file ~/.pgpass (or PGPASSFILE), which nobody else may be allowed to read',
  );
