import { type ExecFileOptions, execFile } from 'node:child_process';
import { appendFile, chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import type { Server } from './server.ts';

/**
 * Copies a running server's data, the way pg_basebackup would, so that a server started on the copy is its hot standby
 * (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP).
 */
export async function copyForStandby(
  primary: Server,
  dataDir: string,
  account: Pick<ExecFileOptions, 'uid' | 'gid'>,
): Promise<void> {
  const client = new pg.Client({ connectionString: primary.url() });
  await client.connect();
  try {
    const { rows } = await client.query('SHOW server_version_num');
    const isOld = Number(rows[0].server_version_num) < 150_000;
    await client.query(
      isOld ? "SELECT pg_start_backup('copy', true, false)" : "SELECT pg_backup_start('copy', true)",
    );
    await promisify(execFile)('cp', ['-a', primary.dataDir, dataDir], { ...account, cwd: '/' });
    const { rows: stopped } = await client.query(
      `SELECT labelfile FROM ${isOld ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)'}`,
    );
    await rm(join(dataDir, 'postmaster.pid'));
    for (const [name, text] of [
      ['backup_label', stopped[0].labelfile],
      ['standby.signal', ''],
    ]) {
      await writeFile(join(dataDir, name), text);
      if (account.uid && account.gid) await chown(join(dataDir, name), account.uid, account.gid);
    }
  } finally {
    await client.end();
  }
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres`;
  await appendFile(join(dataDir, 'postgresql.conf'), `\nprimary_conninfo = '${conninfo}'\n`);
}
