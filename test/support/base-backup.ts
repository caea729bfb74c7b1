import { type ExecFileOptions, execFile } from 'node:child_process';
import { chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import type { Server } from './server.ts';

export type FileOwner = Pick<ExecFileOptions, 'uid' | 'gid'>;

const run = promisify(execFile);

/**
 * Copies a running server's data with the WAL that the copy needs, the way pg_basebackup would
 * (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP).
 */
export async function copyRunning(server: Server, dataDir: string, owner: FileOwner): Promise<void> {
  const client = new pg.Client({ connectionString: server.url() });
  client.on('error', () => {}); // a test may stop the server meanwhile; the next query fails
  await client.connect();
  try {
    const { rows } = await client.query('SHOW server_version_num');
    const isOld = Number(rows[0].server_version_num) < 150_000;
    await client.query(
      isOld ? "SELECT pg_start_backup('copy', true, false)" : "SELECT pg_backup_start('copy', true)",
    );
    await copy(server.dataDir, dataDir, owner);
    const { rows: stopped } = await client.query(
      `SELECT labelfile FROM ${isOld ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)'}`,
    );
    await copy(`${server.dataDir}/pg_wal/.`, `${dataDir}/pg_wal`, owner);
    await rm(join(dataDir, 'postmaster.pid'), { force: true });
    await writeOwned(join(dataDir, 'backup_label'), stopped[0].labelfile, owner);
  } finally {
    await client.end();
  }
}

/** Files may vanish while they are copied: PostgreSQL allows for that. */
async function copy(from: string, to: string, owner: FileOwner): Promise<void> {
  await run('cp', ['-a', from, to], { ...owner, cwd: '/', env: { ...process.env, LC_ALL: 'C' } }).catch(
    (error: { stderr?: string }) => {
      const complaints = (error.stderr ?? '').split('\n').filter((line) => line !== '');
      const isHarmless = complaints.every((line) => line.endsWith('No such file or directory'));
      if (complaints.length === 0 || !isHarmless) throw error;
    },
  );
}

export async function writeOwned(path: string, text: string, { uid, gid }: FileOwner): Promise<void> {
  await writeFile(path, text);
  if (uid && gid) await chown(path, uid, gid);
}
