/** pg's client, as a session uses it. */
import type { Socket } from 'node:net';
import pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import { INVALID_PASSWORD } from './sqlstates.ts';

const TIMESTAMPTZ = 1184;

/** Times stay as printed: a Date would round them to milliseconds. */
const getTypeParser = ((oid: number, format?: 'text') =>
  oid === TIMESTAMPTZ ? String : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser;

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
