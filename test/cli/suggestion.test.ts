import { describe, expect, it } from 'vitest';
import { nearest } from '../../src/cli/suggestion.ts';

const WORDS = ['plan', 'install', 'uninstall', 'status', 'doctor', 'tail'];

describe('a suggestion', () => {
  it.each([
    ['instal', 'install'],
    ['isntall', 'install'],
    ['uninstal', 'uninstall'],
    ['unin', 'uninstall'],
    ['statsu', 'status'],
    ['plam', 'plan'],
    ['tails', 'tail'],
    ['drop', undefined],
    ['plna', 'plan'],
    ['pqrs', undefined],
    ['x'.repeat(1000), undefined],
  ])('for %s is %s', (word, suggestion) => {
    expect(nearest(word, WORDS)).toBe(suggestion);
  });

  it('prefers the nearest word', () => {
    expect(nearest('bat', ['bald', 'bar', 'bat'])).toBe('bat');
    expect(nearest('cat', ['coat', 'cats', 'cut'])).toBe('cats');
  });
});
