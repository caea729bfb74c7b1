import { describe, expect, expectTypeOf, it } from 'vitest';
import { type Options, UsageError, parseValues } from '../../src/cli/options.ts';

const OWN = {
  word: { type: 'string', value: 'WORD', help: 'a word' },
  words: { type: 'string', multiple: true, value: 'LIST', help: 'several words' },
  flag: { type: 'boolean', short: 'f', help: 'a flag' },
} as const satisfies Options;

describe('options', () => {
  it('have values of the types that their table says', () => {
    const values = parseValues(['--word', 'a', '--words', 'b, c', '--words', 'd', '-f', '--name', 'x'], OWN);
    expect(values).toEqual({ word: 'a', words: ['b', 'c', 'd'], flag: true, name: 'x' });
    // tsc checks these.
    expectTypeOf(values.word).toEqualTypeOf<string | undefined>();
    expectTypeOf(values.words).toEqualTypeOf<readonly string[] | undefined>();
    expectTypeOf(values.flag).toEqualTypeOf<boolean | undefined>();
    expectTypeOf(values.name).toEqualTypeOf<string | undefined>();
    expectTypeOf(values).not.toHaveProperty('grant-to');
  });

  it.each([
    ['--wrod', "there is no option '--wrod': did you mean --word?"],
    ['--schema', "there is no option '--schema': did you mean --schemas?"],
    ['--zzz', "there is no option '--zzz'"],
    ['-x', "there is no option '-x'"],
  ])('that do not exist are refused: %s', (option, message) => {
    expect(() => parseValues([option, 'x'], OWN)).toThrow(new UsageError(message));
  });
});
