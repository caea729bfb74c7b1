/** A project that uses this package as npm packs it, beside the dependencies of the checkout. README.md here compares the setups. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = join(ROOT, 'node_modules');

export interface Project extends AsyncDisposable {
  readonly folder: string;
  /** The folder of the package, with the files that npm publishes. */
  readonly installed: string;
  write(file: string, text: string): Promise<void>;
  /** Makes a dependency of the checkout one of the project, or of a folder in it. */
  link(dependency: string, below?: string): Promise<void>;
}

/** `dependencies`: what the project can import beside this package, and what this package imports. */
export async function setupProject(dependencies: readonly string[]): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'project-'));
  const installed = join(folder, 'node_modules/dapper-postgres-input');
  const write = (file: string, text: string) => writeFile(join(folder, file), text);
  await pack(join(folder, 'checkout'), installed);
  const link = async (dependency: string, below = '') => {
    const path = join(folder, below, 'node_modules', dependency);
    await mkdir(dirname(path), { recursive: true });
    await symlink(join(MODULES, dependency), path);
  };
  for (const dependency of dependencies) await link(dependency);
  await write('package.json', JSON.stringify({ name: 'project', private: true, type: 'module' }));
  return {
    folder,
    installed,
    write,
    link,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

/** Packs a copy of the checkout, so that two tests can do it at once. npm builds it first, as for a publication. */
async function pack(copy: string, target: string): Promise<void> {
  const { files } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  const needed = [
    'package.json',
    'tsconfig.json',
    'tsconfig.build.json',
    ...files.filter((file) => file !== 'dist' && !file.startsWith('!')),
  ];
  for (const file of needed) await cp(join(ROOT, file), join(copy, file), { recursive: true });
  await symlink(MODULES, join(copy, 'node_modules'));
  const { stdout } = await run('npm', ['pack', '--silent'], { cwd: copy });
  await mkdir(target, { recursive: true });
  await run('tar', ['-xzf', join(copy, stdout.trim()), '-C', target, '--strip-components=1']);
}
