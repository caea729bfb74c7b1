import { expect, it } from 'vitest';
import { printRows, printTable } from '../../src/cli/output.ts';

it('prints more rows than a call can have arguments', () => {
  let lines = 0;
  const output = { write: () => ++lines } as never;
  const io = { stdout: output, stderr: output, env: {} };
  const rows = Array.from({ length: 200_000 }, (_, n) => ['row', String(n)] as const);
  printRows(io, rows);
  printTable(io, ['LABEL', 'NUMBER'], rows);
  expect(lines).toBe(400_001);
});
