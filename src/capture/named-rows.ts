/** How statements name changes, and the rows of the log that hold them. */
import { PACK, changeOfRow, numberInRow, writtenRow } from '../schema/log-layout.ts';

// As text: pg would look at every character of every element to find out whether it has to be quoted.
export const array = (sequences: Iterable<string>): string => `{${[...sequences].join(',')}}`;

/** Changes as the statement that deletes them names them: each of them, and packed rows of `sizes` changes, which are all meant. */
export interface Named {
  readonly each: readonly string[];
  readonly rows: readonly string[];
  readonly sizes: readonly string[];
}

/**
 * Names together what may be all changes of a packed row: those from its first on, up to where changes of other rows follow, or up to as many as a row can
 * have. Of a row whose changes come last, more may be acknowledged later. A wrong guess costs a statement.
 */
export function withWholeRows(sequences: readonly string[]): Named {
  const each: string[] = [];
  const rows: string[] = [];
  const sizes: string[] = [];
  let from = 0;
  while (from < sequences.length) {
    const row = writtenRow(sequences[from]!);
    let size = 0;
    while (sequences[from + size] === changeOfRow(row, size + 1)) size++;
    const next = sequences[from + size];
    if (size > 1 && (size === PACK || (next !== undefined && writtenRow(next) !== row))) {
      rows.push(row);
      sizes.push(String(size));
    } else each.push(...sequences.slice(from, from + Math.max(size, 1)));
    from += Math.max(size, 1);
  }
  return { each, rows, sizes };
}

/**
 * Takes away the last changes if others of their packed row may follow soon: the row would have to be unpacked, to put those back. They go with the next
 * DELETE, at the latest.
 */
export function takeUnfinished(sequences: string[]): string[] {
  const last = sequences.at(-1);
  const size = last === undefined ? 0 : numberInRow(last);
  if (size === 0 || size >= PACK || size >= sequences.length) return [];
  return sequences.at(-size) === changeOfRow(writtenRow(last!), 1) ? sequences.splice(-size) : [];
}

/** The rows that were written with these changes, and are none of these themselves. */
export function writtenRows(sequences: readonly string[]): Iterable<string> {
  const named = new Set(sequences);
  const rows = new Set<string>();
  for (const sequence of sequences) {
    const row = writtenRow(sequence);
    if (!named.has(row)) rows.add(row);
  }
  return rows;
}

/** The rows in which changes can be: the rows that were written with them, and the single rows that replaced these. */
export const rowsThatHold = (sequences: readonly string[]): string[] => [
  ...sequences,
  ...writtenRows(sequences),
];
