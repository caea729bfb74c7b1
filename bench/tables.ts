/** The tables that are written to, in turn. */
export const tableNames = (count = 1): readonly string[] =>
  Array.from({ length: count }, (_, n) => (n === 0 ? 'item' : `item_${n + 1}`));
