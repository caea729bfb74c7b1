/** What the documents say of files, options and commands. `npm run check:links` looks whether links lead anywhere. */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const root = new URL('../', import.meta.url);
const read = (path: string) => readFile(new URL(path, root), 'utf8');

async function packedFiles(): Promise<string[]> {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root.pathname,
  });
  const [{ files }] = JSON.parse(stdout);
  return files.map(({ path }: { path: string }) => path);
}

/** Files that a document links to, or shows, by their paths from the root. */
const linksOf = (document: string, text: string): string[] =>
  [...text.matchAll(/\]\(([^)\s#]+)[^)]*\)/g)]
    .map(([, target]) => target!)
    .filter((target) => !/^\w+:/.test(target))
    .map((target) => posix.join(posix.dirname(document), target));

test('a link in a packed document leads to a packed file', async () => {
  const packed = await packedFiles();
  const documents = packed.filter((path) => path.endsWith('.md'));
  expect(documents).toContain('README.md');
  const links = await Promise.all(
    documents.map(async (document) =>
      linksOf(document, await read(document)).map((target) => `${document} -> ${target}`),
    ),
  );
  const broken = links.flat().filter((link) => !packed.includes(link.split(' -> ')[1]!));
  expect(broken).toEqual([]);
});

test('README stays short, and has the two commands with which to begin', async () => {
  const readme = await read('README.md');
  expect(readme.split('\n').length).toBeLessThan(100);
  expect(readme).toMatch(/^npm ci && npm run demo\b/m);
  expect(readme).toMatch(/^npm ci && npm test\b/m);
});

test('docs/configuration.md has a row for every option', async () => {
  const source = await read('src/api/options.ts');
  const page = await read('docs/configuration.md');
  const options = [
    'LeaseSettings',
    'TableOptions',
    'PostgresInputOptions',
    'HandleOptions',
    'ProcessOptions',
    'NackOptions',
  ].flatMap((name) => {
    const [, body] = new RegExp(`^export interface ${name}\\b[^{]*\\{\\n([^]*?)^\\}`, 'm').exec(source)!;
    const own = [...body!.matchAll(/^ {2}(\w+)\??:/gm)].map(([, option]) => option!);
    return name === 'LeaseSettings' ? own.map((option) => `lease.${option}`) : own;
  });
  expect(options).toContain('lockTimeout');
  const missing = options.filter((option) => option !== 'lease' && !page.includes(`\`${option}\` `));
  expect(missing).toEqual([]);
});

test('the picture of the demo is small, and shows a run in which nothing was lost', async () => {
  const picture = await read('docs/demo.svg');
  const { size } = await stat(new URL('docs/demo.svg', root));
  expect(size).toBeLessThan(100_000);
  const words = [...picture.matchAll(/<tspan [^>]*>([^<]*)<\/tspan>/g)].map(([, text]) => text);
  expect(words[words.indexOf('lost') + 1]).toBe('0');
  expect(words[words.indexOf('delivered') + 1]).toBe(words[words.indexOf('written') + 1]);
});
