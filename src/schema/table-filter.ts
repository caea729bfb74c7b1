/** Filters tables by names and globs. */
import type { UnmatchedPattern } from '../api/installation.ts';

export interface TableFilter {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

/** Whether a table passes; for a partition, the caller gives the root's name. */
export function passes({ include, exclude }: TableFilter, schema: string, table: string): boolean {
  const named = (patterns: readonly string[]) => patterns.some((pattern) => names(pattern, schema, table));
  return (include.length === 0 || named(include)) && !named(exclude);
}

/** The patterns that name none of the tables: they may be mistyped. */
export function unmatched(
  filter: TableFilter,
  tables: readonly { readonly schema: string; readonly table: string }[],
): UnmatchedPattern[] {
  return (['include', 'exclude'] as const).flatMap((option) =>
    filter[option]
      .filter((pattern) => !tables.some(({ schema, table }) => names(pattern, schema, table)))
      .map((pattern) => ({ option, pattern })),
  );
}

const names = (pattern: string, schema: string, table: string): boolean =>
  matches(pattern, table) || matches(pattern, `${schema}.${table}`);

/** `*` matches any characters, `?` matches one. This is no regular expression: one with many stars could take for ever. */
export function matches(pattern: string, name: string): boolean {
  const [signs, characters] = [Array.from(pattern), Array.from(name)];
  let [at, next] = [0, 0];
  let star: { readonly at: number; next: number } | null = null;
  while (next < characters.length) {
    if (signs[at] === '*') {
      star = { at: at++, next };
    } else if (signs[at] === '?' || signs[at] === characters[next]) {
      at++;
      next++;
    } else if (star) {
      // The last star matches one character more.
      next = ++star.next;
      at = star.at + 1;
    } else {
      return false;
    }
  }
  return signs.slice(at).every((sign) => sign === '*');
}
