/** docs/testing.md has the text of the example, whose tests pass. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const FILES = ['examples/testing/receipts.ts', 'examples/testing/receipts.test.ts'];

test('the document has the text of the example', async () => {
  const read = (path: string) => readFile(new URL(path, ROOT), 'utf8');
  const blocks = [...(await read('docs/testing.md')).matchAll(/^```ts\n([^]*?)^```$/gm)].map(
    ([, text]) => text,
  );
  expect(blocks).toEqual(await Promise.all(FILES.map(read)));
});

test("the example's tests pass", async () => {
  const run = promisify(execFile)(process.execPath, ['--import', 'tsx', '--test', FILES[1]!], {
    cwd: ROOT.pathname,
  });
  expect((await run).stdout).toMatch(/pass 3\n.*fail 0/);
});
