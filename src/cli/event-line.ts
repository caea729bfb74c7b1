/** An event as one line for people: `12:03:04.567Z update orders 7  status: paid -> shipped  by importer`. */
import type { ChangeEvent, Row } from '../api/change-event.ts';
import { type Coloured, coloured, printable } from './output.ts';

/** In characters. A longer value is cut, and `…` shows that. */
const MAX_VALUE = 40;
/** In columns. The line tells how many more there are. */
const MAX_COLUMNS = 8;

const COLOUR_OF = { create: 'green', update: 'yellow', delete: 'red', read: 'cyan', unknown: 'red' } as const;

/** `io` tells whether the line may have colours. */
export function eventLine(event: ChangeEvent, io: Coloured): string {
  const { operation, location, id, origin } = event;
  // Notifications that were sent by hand have no time.
  const time = event.occurredAt === null ? ' '.repeat(13) : `${event.occurredAt.slice(11, 23)}Z`;
  return [
    coloured(io, 'grey', time),
    coloured(io, COLOUR_OF[operation], operation),
    `${coloured(io, 'cyan', printable(location))} ${shortened(id)}`,
    ...dataOf(event),
    ...(origin === null ? [] : [coloured(io, 'grey', `by ${shortened(origin)}`)]),
  ].join('  ');
}

function dataOf({ before, after, changed, dataOmitted, key }: ChangeEvent): string[] {
  if (dataOmitted !== null) return [`no data: ${dataOmitted}`];
  if (before && after && changed) {
    if (changed.length === 0) return ['the same values'];
    return [list(changed, (column) => `${valueOf(before, column)} -> ${valueOf(after, column)}`)];
  }
  const row = after ?? before;
  if (row === null) return [];
  const columns = Object.keys(row).filter(
    (column) => row[column] !== null && !Object.hasOwn(key ?? {}, column),
  );
  return columns.length === 0 ? [] : [list(columns, (column) => valueOf(row, column))];
}

function list(columns: readonly string[], text: (column: string) => string): string {
  const shown = columns.slice(0, MAX_COLUMNS).map((column) => `${printable(column)}: ${text(column)}`);
  const more = columns.length - shown.length;
  return [...shown, ...(more > 0 ? [`${more} more`] : [])].join(', ');
}

const valueOf = (row: Row, column: string): string => shortened(textOf(row[column]));

function textOf(value: unknown): string {
  if (value === '') return "''";
  if (Buffer.isBuffer(value)) return `\\x${value.subarray(0, MAX_VALUE).toString('hex')}`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid time' : value.toISOString();
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}

/** Characters are code points here, so that no pair of surrogates is cut in two. */
function shortened(text: string): string {
  const characters = Array.from(text.slice(0, 2 * MAX_VALUE + 2));
  return printable(
    characters.length > MAX_VALUE ? `${characters.slice(0, MAX_VALUE - 1).join('')}…` : characters.join(''),
  );
}
