/** The streams of a command, and the forms of its results: JSON for programs, columns for people, colours for terminals. */

/** The surroundings of a command; `process` has them all. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: NodeJS.ProcessEnv;
}

export type Output = NodeJS.WritableStream & {
  isTTY?: boolean;
  hasColors?: (env: NodeJS.ProcessEnv) => boolean;
  writableLength?: number;
};

export function printJson({ stdout }: Io, value: unknown): void {
  stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Rows of a label and a text. */
export function printRows({ stdout }: Io, rows: readonly (readonly [string, string])[]): void {
  const width = longest(rows, ([label]) => label);
  for (const [label, text] of rows)
    stdout.write(`${label.padEnd(width)}  ${printable(text)}\n`.replace(/ +\n$/, '\n'));
}

/** Rows below a header, in columns. */
export function printTable(
  { stdout }: Io,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  const lines = [header, ...rows.map((row) => row.map(printable))];
  const widths = header.map((_, column) => longest(lines, (line) => line[column]!));
  for (const line of lines)
    stdout.write(
      `${line
        .map((text, column) => text.padEnd(widths[column]!))
        .join('  ')
        .trimEnd()}\n`,
    );
}

/** The length of the longest text. There may be more rows than a call can have arguments. */
const longest = <Row>(rows: readonly Row[], textOf: (row: Row) => string): number =>
  rows.reduce((length, row) => Math.max(length, textOf(row).length), 0);

const COLOURS = { red: 31, green: 32, yellow: 33, cyan: 36, grey: 90 } as const;

export type Coloured = Pick<Io, 'stdout' | 'env'>;

/** `text` in a colour, if results have colours. */
export const coloured = (io: Coloured, colour: keyof typeof COLOURS, text: string): string =>
  hasColours(io) ? `\u001B[${COLOURS[colour]}m${text}\u001B[39m` : text;

/** By https://force-color.org and https://no-color.org, of which Node.js too asks the first one first; else on terminals with colours. */
function hasColours({ stdout, env }: Coloured): boolean {
  const { FORCE_COLOR: forced, NO_COLOR: refused } = env;
  if (forced !== undefined) return ['', '1', '2', '3', 'true'].includes(forced);
  return !refused && (stdout.hasColors?.(env) ?? false);
}

/**
 * Escapes control characters, the ends of lines and paragraphs of Unicode, and its marks of direction: the name of a table may contain some, and
 * a terminal would obey them.
 */
export const printable = (text: string): string =>
  text.replaceAll(
    /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_C}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

/** A text as a shell takes it for one word. */
export const quotedForShell = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The same for a command that a person is told to run: most names need no quotes. */
export const shellWord = (text: string): string =>
  /^[\w.][\w.-]*$/.test(text) ? text : quotedForShell(text);

export const plural = (count: number, what: string): string =>
  `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

/** The number of tables, and their names. */
export const tableList = (tables: readonly string[]): string =>
  `${plural(tables.length, 'table')}${tables.length > 0 ? ': ' : ''}${tables.join(', ')}`;

/** A duration in its two largest units: `1 min 5 s`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const units = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}
