import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FileOwner, copyRunning, writeOwned } from './base-backup.ts';
import type { Server } from './server.ts';

/** Copies a running server's data so that a server started on the copy is its hot standby. */
export async function copyForStandby(primary: Server, dataDir: string, owner: FileOwner): Promise<void> {
  await copyRunning(primary, dataDir, owner);
  await writeOwned(join(dataDir, 'standby.signal'), '', owner);
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres`;
  await appendFile(join(dataDir, 'postgresql.conf'), `\nprimary_conninfo = '${conninfo}'\n`);
}
