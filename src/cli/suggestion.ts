/** Finds the word that a person may have meant by a mistyped one. */

/** The candidate that `word` begins or that differs least from it; undefined if none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates
    .map((candidate) => ({ candidate, away: candidate.startsWith(word) ? 0 : distance(word, candidate) }))
    .filter(({ candidate, away }) => away <= Math.ceil(candidate.length / 3))
    .toSorted((a, b) => a.away - b.away);
  return best?.candidate;
}

/** Levenshtein's distance: how many characters to insert, remove or replace. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = row[j]! + (from[i] === to[j] ? 0 : 1);
      next.push(Math.min(replaced, row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
