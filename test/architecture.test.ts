/** Which room of src/ may import from which, types included. */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const SOURCE = new URL('../src', import.meta.url).pathname;

/** From a room to the rooms and packages that it must never import. */
const NEVER: Readonly<Record<string, readonly string[]>> = {
  postgres: ['schema', 'capture', 'delivery', 'node'],
  schema: ['capture', 'delivery', 'node'],
  capture: ['delivery', 'node'],
  delivery: ['pg'],
  observe: ['pg', 'capture', 'delivery', 'node'],
};
/** The one file that may import pg-listen. */
const LISTENER = 'postgres/listener.ts';

/** Imports that break a rule and wait to be removed. One that is gone has to leave this list. */
const KNOWN: readonly string[] = [];

interface Import {
  /** Below src/, as the imported one; a package by its name. */
  readonly file: string;
  readonly imported: string;
}

const IMPORT =
  /^(?:(?:import|export|\})[^'"`;=]*\bfrom |import )['"]([^'"]+)['"]|\bimport\(['"]([^'"]+)['"]/gm;

const imports: Import[] = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) =>
    [...readFileSync(join(SOURCE, file), 'utf8').matchAll(IMPORT)].map(([, plain, dynamic]) => {
      const specifier = (plain ?? dynamic)!;
      const path = join(SOURCE, dirname(file), specifier);
      return { file, imported: specifier.startsWith('.') ? relative(SOURCE, path) : specifier };
    }),
  );

/** The first folder of a path; of a file that lies beside the rooms, or of a package, its own name. */
const roomOf = (path: string): string => path.split('/')[0]!;

function isForbidden({ file, imported }: Import): boolean {
  const [from, to] = [roomOf(file), roomOf(imported)];
  if (imported === 'pg-listen') return file !== LISTENER;
  if (from === 'api') return to !== 'api';
  if (to === 'testing') return from !== 'testing' && file !== 'testing.ts';
  if (to === 'cli') return from !== 'cli' && file !== 'cli.ts';
  return NEVER[from]?.includes(to) ?? false;
}

test('no file imports from a folder that its own folder must not know', () => {
  const forbidden = imports.filter(isForbidden).map(({ file, imported }) => `${file} -> ${imported}`);
  expect(forbidden.toSorted()).toEqual(KNOWN.toSorted());
});

/** Everything that is loaded with a file. */
function loadedWith(file: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(file)) return loaded;
  loaded.add(file);
  for (const { imported } of imports.filter((one) => one.file === file)) loadedWith(imported, loaded);
  return loaded;
}

test('an optional peer is loaded by its own entry alone', () => {
  for (const entry of ['index.ts', 'cli.ts'])
    expect([...loadedWith(entry)].filter((file) => file.includes('opentelemetry'))).toEqual([]);
  expect(loadedWith('opentelemetry.ts')).toContain('@opentelemetry/api');
});

test('the test finds the imports of a file', () => {
  expect(imports).toContainEqual({ file: LISTENER, imported: 'pg-listen' });
  expect(imports).toContainEqual({ file: 'capture/notification.ts', imported: 'capture/change.ts' });
  const targets = new Set(imports.map(({ imported }) => roomOf(imported)));
  for (const room of [
    'api',
    'config',
    'postgres',
    'schema',
    'capture',
    'delivery',
    'observe',
    'node',
    'cli',
    'testing',
    'zod',
  ])
    expect(targets).toContain(room);
});
