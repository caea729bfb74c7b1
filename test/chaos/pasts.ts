/**
 * Earlier states that a server can be taken back to: a standby that lags, and a base backup. Whatever the server committed
 * since is lost.
 */
import { copyFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { copyRunning } from '../support/base-backup.ts';
import { type Server, account, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

/**
 * Commits are flushed by those alone that ask for it, so that a crash loses what an application wrote with `synchronous_commit = off`. The
 * WAL stays for as long as a standby is made.
 */
export const SETTINGS = { wal_writer_delay: '10s', wal_keep_size: '256MB' };

export interface Past extends AsyncDisposable {
  /** From now on nothing that the server commits reaches this past. */
  freeze(): Promise<void>;
  /** Stops the server and puts the past in its place, where `server.start()` finds it. */
  replace(): Promise<void>;
}

/** The standby is promoted, and takes over the address of the primary as well. */
export async function standbyOf(server: Server): Promise<Past> {
  const standby = await startServer({ standbyOf: server, settings: SETTINGS });
  return {
    async freeze() {
      await query(standby, "ALTER SYSTEM SET primary_conninfo = ''");
      await query(standby, 'SELECT pg_reload_conf()');
      await until(async () => (await query(standby, 'SELECT FROM pg_stat_wal_receiver')).length === 0);
    },
    async replace() {
      await server.kill();
      await query(standby, 'SELECT pg_promote()');
      await standby.stop();
      await copyFile(join(server.dataDir, 'postgresql.conf'), join(standby.dataDir, 'postgresql.conf'));
      await writeFile(join(standby.dataDir, 'postgresql.auto.conf'), '');
      await putInPlace(standby.dataDir, server.dataDir);
    },
    [Symbol.asyncDispose]: () => standby[Symbol.asyncDispose](),
  };
}

export async function backupOf(server: Server): Promise<Past> {
  const backup = `${server.dataDir}.backup`;
  await rm(backup, { recursive: true, force: true });
  await copyRunning(server, backup, account);
  return {
    async freeze() {},
    async replace() {
      await server.stop();
      await putInPlace(backup, server.dataDir);
    },
    [Symbol.asyncDispose]: () => rm(backup, { recursive: true, force: true }),
  };
}

async function putInPlace(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true });
  await rename(from, to);
}

async function query(server: Server, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: server.url() });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
