/** What a transaction says of itself: the trigger functions log it with every change that the transaction makes. */
import type pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import type { Tags } from '../api/options.ts';
import { TAGS } from '../schema/log-layout.ts';
import { proveTransaction } from './callers-transaction.ts';

/** Both are written with every change. */
const MAX_ORIGIN_BYTES = 256;
const MAX_CONTEXT_BYTES = 8192;

/**
 * Sets the tags for the rest of the client's transaction. A context that is not given is left as it is.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID. Otherwise the client's own errors.
 */
export async function tagTransaction(
  client: pg.ClientBase,
  { origin, context }: Tags & { readonly origin: string },
): Promise<void> {
  const settings: [string, string][] = [[TAGS.origin, checkedOrigin(origin)]];
  if (context !== undefined) settings.push([TAGS.context, context === null ? '' : printed(context)]);
  await proveTransaction(client, 'tag(client)');
  const calls = settings.map((_, i) => `pg_catalog.set_config($${2 * i + 1}, $${2 * i + 2}, true)`);
  await client.query(`SELECT ${calls.join(', ')}`, settings.flat());
}

function checkedOrigin(origin: unknown): string {
  if (typeof origin !== 'string' || origin === '' || origin.includes('\0'))
    throw invalid('origin must be a text that is not empty and has no NUL');
  if (Buffer.byteLength(origin) > MAX_ORIGIN_BYTES)
    throw invalid(`origin must be at most ${MAX_ORIGIN_BYTES} bytes long`);
  return origin;
}

function printed(context: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(context);
  } catch (error) {
    throw invalid(`context can't be written as JSON: ${(error as Error).message}`);
  }
  if (json === undefined) throw invalid(`context can't be written as JSON: it is a ${typeof context}`);
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_CONTEXT_BYTES) {
    throw invalid(
      `context must be at most ${MAX_CONTEXT_BYTES} bytes of JSON, since every change of the transaction carries it, and it has ${bytes}`,
    );
  }
  return json;
}

const invalid = (problem: string): PostgresInputError =>
  new PostgresInputError('ERR_CONFIG_INVALID', `tag(): ${problem}`);
