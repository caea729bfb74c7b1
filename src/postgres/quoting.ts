/** The only place where an identifier or a literal is quoted. */
import pg from 'pg';

export const quoteIdentifier = (name: string): string => pg.escapeIdentifier(name);
export const quoteLiteral = (text: string): string => pg.escapeLiteral(text).trimStart();
/** The text of a literal that `quoteLiteral` made. */
export const unquoteLiteral = (literal: string): string =>
  literal
    .replace(/^E?'(.*)'$/s, '$1')
    .replaceAll("''", "'")
    .replaceAll('\\\\', '\\');
export const qualify = (schema: string, name: string): string =>
  `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
