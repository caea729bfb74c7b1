import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, chown, mkdtemp, open, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { type Account, findPostgres, type Major, parseMajor } from './binaries.ts';
import { whenThisProcessDies } from './guard.ts';
import { copyForStandby } from './standby.ts';

export interface ServerOptions {
  /** Default: TEST_PG_MAJOR, else 18. */
  major?: Major;
  /** postgresql.conf, over the defaults below. Benchmarks want `{ fsync: 'on' }`. */
  settings?: Record<string, string>;
  /** Default: a free one. */
  port?: number;
  /** How clients on TCP prove who they are. Default: trust. */
  auth?: 'trust' | 'password' | 'md5' | 'scram-sha-256';
  /** Makes it a hot standby of this server, which must be of the same major version and trust everybody. */
  standbyOf?: Server;
}

export interface Server extends AsyncDisposable {
  readonly port: number;
  readonly dataDir: string;
  readonly logFile: string;
  /** The folder of the unix socket; a client takes it as its host. */
  readonly socketDir: string;
  /** As superuser `postgres`, on 127.0.0.1. */
  url(database?: string): string;
  /** The postmaster's; undefined while it is down. */
  pid(): number | undefined;
  /** `fast` rolls back and disconnects, `immediate` is a crash with recovery to follow. Keeps the data. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  start(): Promise<void>;
  restart(mode?: 'fast' | 'immediate'): Promise<void>;
  /** SIGKILL to the postmaster; resolves when its last backend is gone too. */
  kill(): Promise<void>;
}

const defaultSettings = {
  fsync: 'off',
  max_connections: '300',
  max_prepared_transactions: '20',
  shared_buffers: '32MB',
  log_min_messages: 'warning',
  log_line_prefix: '%m [%p] %a ',
};

const password = 'postgres';
const stopSignals = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

// Uid and gid 65534 are `nobody` on practically every Linux. PostgreSQL asks for no more than a user that is not root.
export const account: Account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

/** A PostgreSQL server of one's own, which dies with this process at the latest, and its data with it. */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const { major = parseMajor(process.env['TEST_PG_MAJOR'] || '18'), auth = 'trust' } = options;
  const home = await mkdtemp(join(tmpdir(), 'dapper-postgres-'));
  const dataDir = join(home, 'data');
  const logFile = join(home, 'log');
  const guard = whenThisProcessDies(
    `pid=$(head -n 1 "$1/data/postmaster.pid") && kill -QUIT "$pid" &&
     for _ in $(seq 100); do [ -e "$1/data/postmaster.pid" ] || break; sleep 0.1; done
     rm -rf "$1"`,
    home,
  );
  let port = options.port ?? randomPort();
  let running: { postmaster: ChildProcess; gone: Promise<unknown> } | undefined;

  const native = await findPostgres(major, account, home).catch(async (error: unknown) => {
    await guard.run();
    throw error;
  });
  const context = {
    ...account,
    cwd: home,
    env: { PATH: process.env['PATH'], HOME: home, LC_ALL: 'C' },
  };

  async function createCluster(): Promise<void> {
    const passwordFile = join(home, 'password');
    await writeFile(passwordFile, password);
    if (account.uid !== undefined && account.gid !== undefined) {
      await chown(passwordFile, account.uid, account.gid);
    }
    const login = [
      '--username=postgres',
      `--pwfile=${passwordFile}`,
      '--auth-local=trust',
      `--auth-host=${auth}`,
    ];
    const layout = [`--pgdata=${dataDir}`, '--encoding=UTF8', '--locale=C', '--no-sync'];
    await promisify(execFile)(join(native, 'bin/initdb'), [...login, ...layout], context);
  }

  async function initialise(): Promise<void> {
    if (account.uid !== undefined && account.gid !== undefined) await chown(home, account.uid, account.gid);
    if (options.standbyOf) await copyForStandby(options.standbyOf, dataDir, account);
    else await createCluster();
    const settings = {
      ...defaultSettings,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: home,
      ...options.settings,
    };
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`,
    );
    await appendFile(join(dataDir, 'postgresql.conf'), lines.join('\n'));
  }

  async function start(): Promise<void> {
    if (running) return;
    const log = await open(logFile, 'a');
    const postmaster = spawn(join(native, 'bin/postgres'), ['-D', dataDir, '-p', String(port)], {
      ...context,
      detached: true, // out of our process group: Ctrl-C stops the program first, and the server after it
      stdio: ['ignore', 'pipe', log.fd],
    });
    await log.close();
    // Every backend inherits stdout and writes nothing to it, so 'close' means that the last of them is gone.
    postmaster.stdout?.resume();
    running = { postmaster, gone: once(postmaster, 'close') };
    while (!(await answers())) {
      if (postmaster.exitCode !== null || postmaster.signalCode !== null) {
        await halt('SIGKILL');
        throw new Error(`PostgreSQL ${major} did not start:\n${await readFile(logFile, 'utf8')}`);
      }
      await delay(20);
    }
  }

  /** Asks on the unix socket, which is ours alone: on the port, somebody else's server may answer. */
  async function answers(): Promise<boolean> {
    const client = new pg.Client({ host: home, port, user: 'postgres', database: 'postgres' });
    client.on('error', () => {});
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      await client.end();
    }
  }

  async function halt(signal: NodeJS.Signals): Promise<void> {
    if (!running) return;
    running.postmaster.kill(signal);
    await running.gone;
    running = undefined;
  }

  const server: Server = {
    get port() {
      return port;
    },
    dataDir,
    logFile,
    socketDir: home,
    url: (database = 'postgres') =>
      `postgres://postgres${auth === 'trust' ? '' : `:${password}`}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    pid: () => running?.postmaster.pid,
    stop: (mode = 'fast') => halt(stopSignals[mode]),
    start,
    async restart(mode) {
      await server.stop(mode);
      await start();
    },
    kill: () => halt('SIGKILL'),
    async [Symbol.asyncDispose]() {
      await server.stop('immediate');
      await guard.run();
    },
  };

  try {
    await initialise();
    for (let attempts = 10; ; attempts--) {
      try {
        await start();
        return server;
      } catch (error) {
        const taken = String(error).includes('Address already in use');
        if (!taken || options.port !== undefined || attempts === 0) throw error;
        await writeFile(logFile, '');
        port = randomPort();
      }
    }
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Below the range that outgoing connections are given, so that the port is still free after a restart. */
function randomPort(): number {
  return randomInt(10_000, 32_000);
}
