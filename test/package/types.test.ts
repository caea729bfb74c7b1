/** Type-checks projects that use the package, with the oldest and the newest TypeScript that README names. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Project, setupProject } from '../support/setup-project.ts';

const PATIENCE = 300_000;

const USE = `
import { once } from 'node:events';
import { type ChangeEvent, type NewInputFunc, PostgresInputError, newPostgresInput } from 'dapper-postgres-input';

interface Tables {
  orders: { id: number; status: 'paid' | 'shipped' };
}

export const registered: NewInputFunc = newPostgresInput;

export async function main(): Promise<void> {
  await using input = await newPostgresInput<Tables>(
    { name: 'shop', connectionString: 'postgres://localhost/shop' },
    { rows: 'both', watch: { orders: { changed: ['status'] } } },
  );
  const active: unknown[] = await once(input, 'active');
  input.on('parked', ({ sequence, attempts }) => console.log(active, sequence, attempts + 1));
  try {
    for await (const event of input.handle()) {
      if (event.location === 'orders' && event.operation === 'update') {
        const status: 'paid' | 'shipped' | undefined = event.after?.status;
        console.log(status satisfies string | undefined);
      }
    }
    await input.process((event: ChangeEvent<Tables>, { signal }) => signal.throwIfAborted());
  } catch (error) {
    if (error instanceof PostgresInputError && error.retryable) console.log(error.code);
  }
}
// @ts-expect-error: there is no such option
void newPostgresInput({ name: 'shop', connectionString: '' }, { row: 'both' });
`;

/** Types alone from the package, and the function by import(): how CommonJS uses the package where the compiler knows no require of ESM. */
const DYNAMIC = `
import type { PostgresInput } from 'dapper-postgres-input' with { 'resolution-mode': 'import' };
export async function main(): Promise<PostgresInput> {
  const { newPostgresInput } = await import('dapper-postgres-input');
  return newPostgresInput({ name: 'shop', connectionString: '' });
}
`;

const REQUIRE = `
import input = require('dapper-postgres-input');
export const made: Promise<input.PostgresInput> = input.newPostgresInput({ name: 'shop', connectionString: '' });
`;

/** As NestJS has it: decorators, and imports that become require. */
const NEST = `
import { type PostgresInput, newPostgresInput } from 'dapper-postgres-input';
declare function Injectable(): ClassDecorator;
@Injectable()
export class ShopInput {
  input: PostgresInput | null = null;
  async onModuleInit(): Promise<void> {
    this.input = await newPostgresInput({ name: 'shop', connectionString: '' });
  }
}
`;

let project: Project;
beforeAll(async () => {
  project = await setupProject(['@types/node', '@types/pg', 'pg', 'pg-listen', 'zod']);
  await project.write('use.mts', USE);
  await project.write('dynamic.cts', DYNAMIC);
  await project.write('require.cts', REQUIRE);
  await project.write('nest.cts', NEST);
}, PATIENCE);
afterAll(() => project[Symbol.asyncDispose]());

/** What the compiler has to say, line by line. It checks the declarations of all packages too. */
async function complaints(compiler: string, files: readonly string[], options: object): Promise<string[]> {
  const name = `${compiler}-${JSON.stringify(options).replaceAll(/\W+/g, '-')}.json`;
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: false,
    ...options,
  };
  await project.write(name, JSON.stringify({ files, compilerOptions }));
  const tsc = fileURLToPath(new URL(`../../node_modules/${compiler}/bin/tsc`, import.meta.url));
  const args = [tsc, '-p', join(project.folder, name), '--pretty', 'false'];
  const output = await new Promise<string>((resolve) => {
    execFile(process.execPath, args, (_error, stdout, stderr) => resolve(stdout + stderr));
  });
  return output.split('\n').filter((line) => line !== '');
}

const ESM = ['use.mts'];

test.each([
  [
    'ESM and require, as Node.js 20.19 has them',
    [...ESM, 'dynamic.cts', 'require.cts'],
    { module: 'nodenext' },
  ],
  [
    'NestJS',
    ['nest.cts'],
    {
      module: 'nodenext',
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
      verbatimModuleSyntax: false,
    },
  ],
  ['node20', [...ESM, 'require.cts'], { module: 'node20' }],
  ['a bundler', ESM, { module: 'preserve', moduleResolution: 'bundler' }],
])(
  'TypeScript 7 finds nothing to complain about in a project for %s',
  async (_name, files, options) => {
    expect(await complaints('typescript', files, options)).toEqual([]);
  },
  PATIENCE,
);

test.each([
  ['ESM and import()', [...ESM, 'dynamic.cts'], { module: 'nodenext' }],
  ['a bundler', ESM, { module: 'preserve', moduleResolution: 'bundler' }],
])(
  'TypeScript 5.6 finds nothing of ours to complain about in a project for %s',
  async (_name, files, options) => {
    const found = await complaints('typescript-5.6', files, options);
    // The declarations of pg-protocol are for 5.7 and later: Buffer has been generic since.
    const others = found.filter(
      (line) => !/pg-protocol\/dist\/serializer\.d\.ts.*Type 'Buffer' is not generic/.test(line),
    );
    expect(others).toEqual([]);
  },
  PATIENCE,
);
