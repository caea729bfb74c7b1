/** Which tables a filter lets pass: names and globs. */

export interface TableFilter {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

/** A partition passes by its root's name. */
export function passes({ include, exclude }: TableFilter, schema: string, table: string): boolean {
  const named = (patterns: readonly string[]) =>
    patterns.some((pattern) => matches(pattern, table) || matches(pattern, `${schema}.${table}`));
  return (include.length === 0 || named(include)) && !named(exclude);
}

/** `*` stands for any characters, `?` for one. Not by a regular expression: with many stars it could take for ever. */
function matches(pattern: string, name: string): boolean {
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
      // It has to stand for one more.
      next = ++star.next;
      at = star.at + 1;
    } else {
      return false;
    }
  }
  return signs.slice(at).every((sign) => sign === '*');
}
