import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { whenThisProcessDies } from './guard.ts';
import type { Pooler, PoolerOptions } from './pooler.ts';

/** Whether a PgBouncer is installed: tests that want the real one are skipped without. */
export const hasPgBouncer = spawnSync('pgbouncer', ['--version']).status === 0;

/** The real one, for a server that trusts everybody. */
export async function startPgBouncer(
  host: string,
  serverPort: number,
  { mode = 'transaction', backends = 4, reuse = 'oldest' }: PoolerOptions = {},
): Promise<Pooler> {
  const home = await mkdtemp(join(tmpdir(), 'pgbouncer-'));
  const port = await freePort();
  const config = join(home, 'pgbouncer.ini');
  const users = join(home, 'users');
  await writeFile(users, '"postgres" "postgres"\n');
  await writeFile(
    config,
    `[databases]
* = host=${host} port=${serverPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${mode}
default_pool_size = ${backends}
min_pool_size = ${backends}
server_round_robin = ${reuse === 'oldest' ? 1 : 0}
`,
  );
  await chmod(home, 0o755);
  // It refuses to run as root.
  const child = spawn('pgbouncer', [config], {
    stdio: 'ignore',
    ...(process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}),
  });
  const guard = whenThisProcessDies('kill "$1"; rm -rf "$2"', String(child.pid), home);
  const exited = once(child, 'exit');
  const pooler: Pooler = {
    url(direct) {
      const url = new URL(direct);
      url.host = `127.0.0.1:${port}`;
      return url.href;
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
      guard.cancel();
      await rm(home, { recursive: true });
    },
  };
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`pgbouncer did not start: exit code ${child.exitCode}`);
  }
  return pooler;
}

/** Asks PgBouncer's own console, which needs no server. */
async function answers(port: number): Promise<boolean> {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'pgbouncer' });
  client.on('error', () => {});
  try {
    await client.connect();
    return true;
  } catch (error) {
    // "not allowed" comes from PgBouncer.
    return (error as { code?: string }).code !== 'ECONNREFUSED';
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
