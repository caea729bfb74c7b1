/** Makes the connections of a node, and those of a single task. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import type { Settings } from '../config/settings.ts';
import { Listener } from '../postgres/listener.ts';
import { Session } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { isQueueFull } from '../postgres/sqlstates.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';

export interface Connections {
  readonly session: Session;
  readonly listener: Listener;
  /** Whether a notification sent on the one arrived on the other. If not, the server's notification queue is full. */
  readonly proven: boolean;
}

/** Connects a control session and a listener, and proves that a notification sent on the one arrives on the other. */
export async function connect(settings: Settings, names: Names): Promise<Connections> {
  const started = performance.now();
  const session = await Session.connect(settings.target, sessionOptions(settings));
  let listener: Listener | undefined;
  try {
    const left = () => Math.max(1, Math.ceil(settings.connectTimeout - (performance.now() - started)));
    listener = await Listener.connect(session.endpoint, [names.channel, names.nodeChannel], {
      applicationName: sessionOptions(settings).applicationName,
      connectTimeout: left(),
      heartbeat: 2 * settings.lease.renewInterval,
    });
    const proven = await proveNotifications(session, listener, names, left());
    return { session, listener, proven };
  } catch (cause) {
    await Promise.all([listener?.close(), session.close()]);
    if (cause instanceof PostgresInputError && cause.code === 'ERR_CONNECT') throw cause;
    throw new PostgresInputError(
      'ERR_CONNECT',
      `no listener could be made within ${settings.connectTimeout} ms (${(cause as Error).message}): ` +
        'check the limits on connections, or raise connectTimeout',
      { cause, secrets: settings.target.secrets },
    );
  }
}

/**
 * Returns false if the queue is full: the node then joins unproven, and reads the log. It sleeps only after its marker has
 * arrived (capture/sleeping.ts).
 */
async function proveNotifications(
  session: Session,
  listener: Listener,
  names: Names,
  timeout: number,
): Promise<boolean> {
  const message = encodeNodeMessage({ kind: 'marker', marker: randomUUID() });
  const arrived = new AbortController();
  listener.onNotification = (_channel, payload) => {
    if (payload === message) arrived.abort();
  };
  try {
    await session.query('SELECT pg_notify($1, $2)', [names.nodeChannel, message], timeout);
  } catch (error) {
    if (isQueueFull(error)) return false;
    throw error;
  }
  await sleep(timeout, arrived.signal);
  if (arrived.signal.aborted) return true;
  throw new PostgresInputError(
    'ERR_CONNECT',
    `a notification to ourselves did not arrive within connectTimeout, ${timeout} ms of which were left: ` +
      'connect to the server itself or through a pooler in session mode, not in transaction mode',
  );
}

export const sessionOptions = (settings: Settings) => ({
  connectTimeout: settings.connectTimeout,
  statementTimeout: 2 * settings.lease.renewInterval,
  applicationName: `dapper-postgres-input ${settings.id}`.slice(0, 63),
});

/** Runs one task in a session of its own, which is closed afterwards. */
export async function withSession<Result>(
  settings: Settings,
  task: (session: Session) => Promise<Result>,
  endpoint: readonly pg.ClientConfig[] = settings.target.candidates,
): Promise<Result> {
  const target = { ...settings.target, candidates: endpoint };
  const session = await Session.connect(target, sessionOptions(settings));
  try {
    return await task(session);
  } finally {
    await session.close();
  }
}

/** Shows that an input can be made of these settings: connects as a node does, and hangs up. Returns whether notifications are proven to arrive. */
export async function tryConnecting(settings: Settings, names: Names): Promise<boolean> {
  const { session, listener, proven } = await connect(settings, names);
  await Promise.all([listener.close(), session.close()]);
  return proven;
}
