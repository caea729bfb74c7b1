/** Makes the connections of a node, and those of a single task. */
import { randomUUID } from 'node:crypto';
import { PostgresInputError } from '../api/errors.ts';
import type { Settings } from '../config/settings.ts';
import { Listener } from '../postgres/listener.ts';
import { Session, type SessionOptions } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { isQueueFull } from '../postgres/sqlstates.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import { Suppositions } from './suppositions.ts';

export interface Connections {
  readonly session: Session;
  readonly listener: Pick<Listener, 'onNotification' | 'onLost' | 'keepProcess' | 'close'>;
  readonly wakeup: Wakeup;
}

/**
 * How the node will find out about changes. `notify`: a notification sent on the one connection arrived on the other. `unproven`: the
 * server's notification queue is full. `poll`: nothing is listened to.
 */
export type Wakeup = 'notify' | 'unproven' | 'poll';

/** What a node does about a pooler in transaction mode on the way of its control session. */
const POOLING = { notify: 'refuse', auto: 'accept', poll: 'assume' } as const;

/**
 * Connects a control session and, unless the node polls, a listener; then it proves that a notification sent on the one arrives on the other.
 */
export async function connect(settings: Settings, names: Names): Promise<Connections> {
  const started = performance.now();
  const session = await Session.connect(settings.listenTarget ?? settings.target, {
    ...sessionOptions(settings),
    pooling: POOLING[settings.wakeup],
  });
  if (session.isPooled) return { session, listener: new Suppositions(names), wakeup: 'poll' };
  let listener: Listener | undefined;
  try {
    const left = () => Math.max(1, Math.ceil(settings.connectTimeout - (performance.now() - started)));
    listener = await Listener.connect(session.endpoint, [names.channel, names.nodeChannel], {
      applicationName: sessionOptions(settings).applicationName,
      connectTimeout: left(),
      heartbeat: 2 * settings.lease.renewInterval,
    });
    const proven = await proveNotifications(session, listener, names, left());
    return { session, listener, wakeup: proven ? 'notify' : 'unproven' };
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
  const losses: PostgresInputError[] = [];
  listener.onLost = (error) => {
    losses.push(error);
    arrived.abort();
  };
  try {
    await session.query('SELECT pg_notify($1, $2)', [names.nodeChannel, message], timeout);
  } catch (error) {
    if (!isQueueFull(error)) throw error;
    if (losses[0]) throw losses[0];
    return false;
  }
  await sleep(timeout, arrived.signal);
  if (losses[0]) throw losses[0];
  if (arrived.signal.aborted) return true;
  throw new PostgresInputError(
    'ERR_CONNECT',
    `a notification to ourselves did not arrive within connectTimeout, ${timeout} ms of which were left: ` +
      'connect to the server itself or through a pooler in session mode, not in transaction mode, or let the node poll, by its option wakeup',
  );
}

/** A session beside those of a node. Where these have a way of their own, the other way leads through a pooler. */
export const sessionOptions = (settings: Settings): SessionOptions => ({
  connectTimeout: settings.connectTimeout,
  statementTimeout: 2 * settings.lease.renewInterval,
  applicationName: `dapper-postgres-input ${settings.id}`.slice(0, 63),
  pooling: settings.listenTarget ? 'assume' : POOLING[settings.wakeup],
});

/** Connects another session of the same kind to the server of a node's session. */
export const connectBeside = (
  settings: Settings,
  { endpoint, isPooled }: Session,
  statementTimeout = sessionOptions(settings).statementTimeout,
): Promise<Session> =>
  Session.connect(
    { ...settings.target, candidates: [endpoint] },
    { ...sessionOptions(settings), statementTimeout, pooling: isPooled ? 'assume' : 'refuse' },
  );

/** Runs one task in a session of its own, which is closed afterwards. `beside`: a node's session, to the server of which it connects. */
export async function withSession<Result>(
  settings: Settings,
  task: (session: Session) => Promise<Result>,
  beside?: Session,
): Promise<Result> {
  const session = beside
    ? await connectBeside(settings, beside)
    : await Session.connect(settings.target, sessionOptions(settings));
  try {
    return await task(session);
  } finally {
    await session.close();
  }
}

/** Shows that an input can be made of these settings: connects as a node does. */
export async function connectFirst(settings: Settings, names: Names): Promise<Connections> {
  const connections = await connect(settings, names);
  try {
    if (settings.listenTarget) await proveSameDatabase(settings, connections.session);
    return connections;
  } catch (error) {
    await Promise.all([connections.listener.close(), connections.session.close()]);
    throw error;
  }
}

/** Shows the same, and hangs up. */
export async function tryConnecting(settings: Settings, names: Names): Promise<Wakeup> {
  const { session, listener, wakeup } = await connectFirst(settings, names);
  await Promise.all([listener.close(), session.close()]);
  return wakeup;
}

/** @throws {PostgresInputError} ERR_CONNECT if the two connection strings lead to two databases */
async function proveSameDatabase(settings: Settings, session: Session): Promise<void> {
  // Two clusters may have one system identifier, as a server and its copy, but did not start at the same microsecond.
  const identity = `SELECT concat(pg_postmaster_start_time(), ' ', oid) AS identity FROM pg_database WHERE datname = current_database()`;
  const [own] = await session.query<{ identity: string }>(identity);
  const [other] = await withSession(settings, (pooled) => pooled.query<{ identity: string }>(identity));
  if (own!.identity === other!.identity) return;
  throw new PostgresInputError(
    'ERR_CONNECT',
    'connectionString and listenConnectionString lead to two databases: let both lead to the same one',
    { secrets: settings.target.secrets },
  );
}
