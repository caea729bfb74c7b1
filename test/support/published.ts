import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * The folder of a version of this package as it was packed for npm, from `test/fixtures/`. It lies below node_modules, where it finds
 * the dependencies of this one.
 */
export async function published(version: '0.1.0'): Promise<string> {
  const cache = fileURLToPath(new URL('../../node_modules/.cache', import.meta.url));
  const target = join(cache, `dapper-postgres-input-${version}`);
  const folder = join(target, 'package');
  if (existsSync(folder)) return folder;

  await mkdir(cache, { recursive: true });
  const partial = await mkdtemp(`${target}-`);
  const tarball = fileURLToPath(new URL(`../fixtures/dapper-postgres-input-${version}.tgz`, import.meta.url));
  await run('tar', ['-xzf', tarball, '-C', partial]);
  // A rename, so that nobody sees half a package; it fails when another process was faster.
  await rename(partial, target).catch(() => rm(partial, { recursive: true }));
  return folder;
}

/** Runs the command line of that version; rejects unless it exits with 0. */
export async function publishedCommand(version: '0.1.0', args: readonly string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [join(await published(version), 'dist/cli.js'), ...args]);
  return stdout;
}
