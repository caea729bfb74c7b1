/**
 * Decodes the data of a change: rows that PostgreSQL has printed as composite values become the objects that node-postgres makes of the same
 * rows in a SELECT.
 *
 * A composite's text is `(1,,"a ""quoted"" text","")`: an empty field is NULL. A field with an empty text, a comma, a parenthesis, a quote, a
 * backslash or white space is quoted, and quotes and backslashes within are doubled
 * (https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX).
 *
 * A waiting change is held as text, which takes a quarter of the memory of the objects; it is decoded when its event is handed out. A text
 * that does not match its shape and a parser that throws lose no event: it comes without data, and says so.
 */
import type { Row } from '../api/change-event.ts';
import type { TypeParsers } from '../api/options.ts';
import type { Change } from '../capture/change.ts';
import type { Omission, RowShape } from '../capture/row-shapes.ts';

export interface RowData {
  readonly before: Row | null;
  readonly after: Row | null;
  /** The columns that differ, where there are both sides. */
  readonly changed: string[] | null;
  readonly dataOmitted: Omission | null;
}

/** What the event has of a change without data. */
export const NO_DATA: RowData = { before: null, after: null, changed: null, dataOmitted: null };

/** Makes the data of an event. */
export interface Decoder {
  decode(change: Change): RowData;
}

type Parser = ReturnType<TypeParsers['getTypeParser']>;

export class RowDecoder implements Decoder {
  readonly #types: TypeParsers;
  /** What node-postgres makes the objects of a result from. */
  readonly #emptyRows = new WeakMap<RowShape, Row>();
  /** The parsers of the columns of shapes. They may be set at any time, so they are known for one turn of the event loop. */
  readonly #parsers = new Map<RowShape, Parser[]>();

  constructor(types: TypeParsers) {
    this.#types = types;
  }

  decode(change: Change): RowData {
    const { shape, details } = change;
    if (shape === null || details === null) return NO_DATA;
    if (typeof shape === 'string') return { ...NO_DATA, dataOmitted: shape };
    try {
      const before = details.before === null ? null : fieldsOf(ownText(change, details.before), shape.length);
      const after = details.after === null ? null : fieldsOf(ownText(change, details.after), shape.length);
      return {
        before: before && this.#rowOf(before, shape),
        after: after && this.#rowOf(after, shape),
        changed: before && after && differing(before, after, shape),
        dataOmitted: null,
      };
    } catch {
      return { ...NO_DATA, dataOmitted: 'unreadable' };
    }
  }

  #rowOf(fields: readonly (string | null)[], shape: RowShape): Row {
    let empty = this.#emptyRows.get(shape);
    if (!empty) this.#emptyRows.set(shape, (empty = emptyRow(shape)));
    const row = { ...empty };
    const parsers = this.#parsersOf(shape);
    for (let i = 0; i < shape.length; i++) {
      const field = fields[i]!;
      if (field !== null) row[shape[i]![0]] = parsers[i]!(field);
    }
    return row;
  }

  #parsersOf(shape: RowShape): Parser[] {
    let parsers = this.#parsers.get(shape);
    if (parsers) return parsers;
    if (this.#parsers.size === 0) setImmediate(() => this.#parsers.clear());
    parsers = shape.map(([, type]) => this.#types.getTypeParser(type, 'text'));
    this.#parsers.set(shape, parsers);
    return parsers;
  }
}

/** All columns are the object's own, also one whose name is `__proto__`. */
function emptyRow(shape: RowShape): Row {
  const row = Object.create(null) as Row;
  for (const [name] of shape) row[name] = null;
  return { ...row };
}

/** PostgreSQL prints equal values alike, and the texts tell more than the objects: 1.0 and 1.00 differ. */
function differing(
  before: readonly (string | null)[],
  after: readonly (string | null)[],
  shape: RowShape,
): string[] {
  const names: string[] = [];
  for (let i = 0; i < shape.length; i++) if (before[i] !== after[i]) names.push(shape[i]![0]);
  return names;
}

const QUOTE = '"'.charCodeAt(0);
const COMMA = ','.charCodeAt(0);

/** The texts of a composite's fields. @throws if their number is another one */
export function fieldsOf(text: string, count: number): (string | null)[] {
  const cut = text.length < LONG ? plainCut : copiedCut;
  // Asked once: most rows have none.
  const hasBackslashes = text.includes('\\');
  const end = text.length - 1;
  const fields: (string | null)[] = [];
  let at = 1;
  while (at <= end && fields.length < count) {
    if (text.charCodeAt(at) === QUOTE) {
      let field = '';
      let from = at + 1;
      while (text.charCodeAt((at = quoteAfter(text, from)) + 1) === QUOTE) {
        // The first of a pair belongs to the field.
        field += text.slice(from, at + 1);
        from = at + 2;
      }
      const rest = cut(text, from, at);
      const whole = field === '' ? rest : field + rest;
      fields.push(hasBackslashes ? whole.replaceAll('\\\\', '\\') : whole);
      at++;
    } else {
      const comma = text.indexOf(',', at);
      const to = comma === -1 ? end : comma;
      fields.push(to === at ? null : cut(text, at, to));
      at = to;
    }
    if (at < end && text.charCodeAt(at) !== COMMA) break;
    at++;
  }
  if (fields.length !== count || (count > 0 && at !== text.length) || !text.endsWith(')'))
    throw new Error('the text is not a row of this shape');
  return fields;
}

function quoteAfter(text: string, from: number): number {
  const at = text.indexOf('"', from);
  if (at === -1) throw new Error('a quoted field does not end');
  return at;
}

// A slice keeps the text alive that it was cut from. So a field keeps its own row at most, and nothing of a long row.
const LONG = 4096;
/** The row of a packed change is a slice of the rows of its statement. That of a backfill came alone. */
const ownText = ({ isRead }: Change, row: string): string => (isRead ? row : `(${row.slice(1)}`);
const plainCut = (text: string, from: number, to: number): string => text.slice(from, to);
const copiedCut = (text: string, from: number, to: number): string => ` ${text.slice(from, to)}`.slice(1);
