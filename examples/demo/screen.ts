/** What the demo prints: a table that grows by a line twice a second, and by one for everything that happens. */
import { styleText } from 'node:util';
import type { ChangeEvent } from 'dapper-postgres-input';

const hasColours = (process.stdout.isTTY || process.env['FORCE_COLOR']) && !process.env['NO_COLOR'];
type Style = Parameters<typeof styleText>[0];
const style = (format: Style, text: string): string => (hasColours ? styleText(format, text) : text);

export const print = (text = ''): void => void process.stdout.write(`${text}\n`);

let started = performance.now();
const clock = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`.padStart(7);

/** What there is to see of a replica. */
export interface Column {
  readonly name: string;
  readonly state: 'starting' | 'standby' | 'active' | 'gone';
  readonly received: number;
}

const SIGNS = {
  starting: ['dim', '…'],
  standby: ['dim', '○'],
  active: ['green', '●'],
  gone: ['red', '✕'],
} as const;

/** The clock starts here. */
export function heading(columns: readonly Column[]): void {
  started = performance.now();
  const names = columns.map(({ name }) => `${name} received`.padStart(14)).join('');
  print(style('dim', `   time  shop wrote${names}   the last update`));
}

export function row(
  written: number,
  columns: readonly Column[],
  last: ChangeEvent | undefined,
  schema: string,
): void {
  const cells = columns.map(({ state, received }) => {
    const [format, sign] = SIGNS[state];
    return style(format, `${sign}${String(received).padStart(7)}`.padStart(14));
  });
  const event = last ? textOf(last, schema) : '';
  print(`${clock()}${String(written).padStart(12)}${cells.join('')}   ${style('dim', event)}`);
}

/** `orders 44528862 status: paid -> shipped` */
function textOf({ location, id, before, after, changed }: ChangeEvent, schema: string): string {
  const shortId = id.replaceAll(/(?<=[0-9a-f]{8})-[-0-9a-f]+/g, '');
  const differences = changed?.map(
    (column) => `${column}: ${String(before?.[column])} -> ${String(after?.[column])}`,
  );
  return `${location.replace(`${schema}.`, '')} ${shortId} ${differences?.join(', ')}`;
}

/** Something happened. */
export const headline = (text: string): void => print(`${clock()}  ${style(['bold', 'yellow'], text)}`);

/** A line of the final count. */
export const count = (what: string, number: number, isGood: boolean, remark = ''): void =>
  print(
    `${what.padStart(14)} ${style(isGood ? 'green' : 'red', number.toLocaleString('en').padStart(7))}   ${remark}`.trimEnd(),
  );
