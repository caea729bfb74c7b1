/** Bundles of an application. Each has pg-format beside it and nothing else, as docs/bundling.md tells. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as esbuild from 'esbuild';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createDatabase } from '../support/database.ts';
import { type Project, setupProject } from '../support/setup-project.ts';

const APPLICATION = `
import { newPostgresInput } from 'dapper-postgres-input';

async function main() {
  const input = await newPostgresInput(
    { name: 'bundled', connectionString: process.env.DATABASE_DSN },
    { rows: 'after', connectTimeout: 15_000 },
  );
  input.once('installed', () => console.log('installed'));
  for await (const event of input.handle()) {
    console.log(JSON.stringify(event));
    break;
  }
  await input.close();
}
main();
`;

const run = promisify(execFile);
const ROLLUP = fileURLToPath(new URL('../../node_modules/rollup/dist/bin/rollup', import.meta.url));
const CONFIG = fileURLToPath(new URL('rollup.config.js', import.meta.url));

let project: Project;
beforeAll(async () => {
  project = await setupProject(['pg', 'pg-listen', 'zod']);
  await project.write('application.js', APPLICATION);
  await project.link('pg-format', 'bundles');
}, 120_000);
afterAll(() => project[Symbol.asyncDispose]());

/** The bundle's files are removed with the project. */
const bundleOf = (file: string): string => join(project.folder, 'bundles', file);

const byEsbuild = async (outfile: string, options: esbuild.BuildOptions) => {
  const { metafile } = await esbuild.build({
    ...options,
    entryPoints: [join(project.folder, 'application.js')],
    bundle: true,
    platform: 'node',
    external: ['pg-format'],
    metafile: true,
    logLevel: 'silent',
    outfile,
  });
  return Object.values(metafile.outputs)[0]!.inputs;
};

/** An ES module has no require, which pg needs for what Node.js has built in. */
const BANNER = `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`;

const BUNDLERS: readonly [name: string, file: string, build: (outfile: string) => Promise<unknown>][] = [
  [
    'esbuild as an ES module',
    'esbuild.mjs',
    (outfile) => byEsbuild(outfile, { format: 'esm', banner: { js: BANNER } }),
  ],
  ['esbuild as CommonJS', 'esbuild.cjs', (outfile) => byEsbuild(outfile, { format: 'cjs' })],
  ['esbuild, minified', 'minified.cjs', (outfile) => byEsbuild(outfile, { format: 'cjs', minify: true })],
  [
    'rollup',
    'rollup.mjs',
    (outfile) =>
      run(process.execPath, [ROLLUP, '--config', CONFIG, '--file', outfile, '--silent'], {
        cwd: project.folder,
      }),
  ],
];

describe.each(BUNDLERS)('a bundle by %s', (_name, file, build) => {
  test('starts, installs and hands out an event', async () => {
    await build(bundleOf(file));
    await using database = await createDatabase();
    await database.query('CREATE TABLE orders (id int PRIMARY KEY, status text)');
    const application = spawn(process.execPath, [bundleOf(file)], {
      env: { ...process.env, DATABASE_DSN: database.url },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void application.kill('SIGKILL'));
    const lines = createInterface(application.stdout)[Symbol.asyncIterator]();
    expect(await lines.next()).toMatchObject({ value: 'installed' });
    await database.query(`INSERT INTO orders VALUES (7, 'paid')`);
    expect(JSON.parse((await lines.next()).value)).toMatchObject({
      location: 'orders',
      operation: 'create',
      trigger: 'bundled',
      after: { id: 7, status: 'paid' },
    });
    expect(await lines.next()).toMatchObject({ done: true });
  });
});

test('a bundle has a third of zod: neither its locales nor its older versions', async () => {
  const inputs = await byEsbuild(bundleOf('measured.cjs'), { format: 'cjs' });
  const zod = Object.entries(inputs).filter(([path]) => path.includes('/zod/'));
  expect(zod.length).toBeGreaterThan(0);
  const bytes = zod.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  expect(bytes).toBeLessThan(250_000);
  expect((await stat(bundleOf('measured.cjs'))).size).toBeLessThan(1_000_000);
});

test('docs/bundling.md shows what is tested here', async () => {
  const text = await readFile(new URL('../../docs/bundling.md', import.meta.url), 'utf8');
  expect(text).toContain(await readFile(CONFIG, 'utf8'));
  expect(text).toContain(BANNER);
});

test('CommonJS can require the package', () => {
  const require = createRequire(join(project.folder, 'application.cjs'));
  expect(require('dapper-postgres-input')).toMatchObject({ newPostgresInput: expect.any(Function) });
});

test('every map of the package leads to sources that the package holds', async () => {
  const dist = join(project.installed, 'dist');
  const files = readdirSync(dist, { recursive: true, encoding: 'utf8' });
  const codes = files.filter((file) => /\.js$|\.d\.ts$/.test(file));
  expect(codes.length).toBeGreaterThan(100);
  for (const code of codes) {
    const map = join(dist, `${code}.map`);
    const { sources } = JSON.parse(await readFile(map, 'utf8')) as { sources: string[] };
    expect(sources).toHaveLength(1);
    const source = resolve(dirname(map), sources[0]!);
    expect(source.startsWith(join(project.installed, 'src/')), source).toBe(true);
    expect(existsSync(source), source).toBe(true);
  }
});
