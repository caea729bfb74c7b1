/**
 * What a notification's payload says.
 *
 * Anybody who can connect can send one. So the changes that our triggers announce are signed, and of what bears a
 * sequence only that is believed; a payload without sequences is somebody's own notification, such as the original
 * sends, and is believed if it has the right form.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { PostgresInputError } from '../api/errors.ts';
import { type Operation, parseOperation } from '../api/orchestrator.ts';
import { Change, changeOf } from './change.ts';

export type Payload =
  /**
   * Changes of one statement, and the transaction that made them. Crowded: another was about to notify as well.
   */
  | {
      readonly kind: 'changes';
      readonly changes: readonly Change[];
      readonly xid: bigint;
      readonly crowded: boolean;
    }
  /** There is something in the change log. */
  | { readonly kind: 'look' }
  /** A change that somebody announced by hand: it is in no log. */
  | { readonly kind: 'foreign'; readonly change: Change }
  /** Claims to be ours, and is not. */
  | { readonly kind: 'forged' }
  /** No change at all. */
  | { readonly kind: 'garbage'; readonly error: PostgresInputError };

const loggedChange = z.object({
  seq: z.string(),
  xid: z.string(),
  at: z.string(),
  tbl: z.string(),
  id: z.string(),
  op: z.string(),
  key: z.union([z.string(), z.record(z.string(), z.string())]).nullable(),
});
const announcement = z.tuple([z.object({ mac: z.string() }), loggedChange], loggedChange);

const foreignChange = z.object({
  tbl: z.string().min(1),
  id: z.union([z.string(), z.number(), z.null()]),
  op: z.string(),
});

const SIGNED = /^\[\{"mac":"([0-9a-f]{64})"(,"crowded":true)?\},/;

/** Reads a payload; `secret` is what our triggers sign with. */
export function readPayload(text: string, secret: Buffer): Payload {
  if (text === '[]') return { kind: 'look' };
  const signature = SIGNED.exec(text);
  if (signature)
    return isSigned(text, signature, secret)
      ? announced(text, signature[2] !== undefined)
      : { kind: 'forged' };

  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    return garbage(text, 'it is not JSON', cause);
  }
  if (bearsSequence(value)) return { kind: 'forged' };
  const { data, error } = foreignChange.safeParse(value);
  if (error) return garbage(text, z.prettifyError(error).replaceAll('\n', ' '), error);
  try {
    return { kind: 'foreign', change: foreign(data, parseOperation(data.op), text) };
  } catch (cause) {
    return garbage(text, (cause as Error).message, cause);
  }
}

function isSigned(text: string, [prefix, mac]: RegExpExecArray, secret: Buffer): boolean {
  const body = text.slice(prefix.length, -1);
  const expected = createHmac('sha256', secret).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(mac!, 'hex'));
}

/** The log tells what another version of the trigger functions says otherwise. */
function announced(text: string, crowded: boolean): Payload {
  const { data } = announcement.safeParse(JSON.parse(text));
  if (!data) return { kind: 'look' };
  const [, ...changes] = data;
  return {
    kind: 'changes',
    crowded,
    // The trigger made `at` of UTC, and JSON's timestamps are ISO 8601.
    changes: changes.map((c) => changeOf(c.seq, `${c.at}Z`, c.tbl, c.id, c.op, c.key)),
    xid: BigInt(changes[0].xid),
  };
}

function foreign(data: z.output<typeof foreignChange>, operation: Operation, text: string): Change {
  const id = typeof data.id === 'number' ? numberAsWritten(data.id, text) : (data.id ?? '');
  return new Change(null, data.tbl, operation, id, null, null);
}

/** JSON.parse rounds large numbers; their digits are still in the text. */
function numberAsWritten(value: number, text: string): string {
  if (Number.isSafeInteger(value)) return String(value);
  const written = [...text.matchAll(/"id"\s*:\s*(-?[\d.eE+-]+)/g)].map(([, digits]) => digits);
  return written.findLast((digits) => Number(digits) === value) ?? String(value);
}

/** No deeper than it has to look: brackets can be nested deeper than a call stack. */
const bearsSequence = (value: unknown): boolean =>
  [value]
    .flat()
    .some((item) => typeof item === 'object' && item !== null && ('seq' in item || 'mac' in item));

const garbage = (text: string, reason: string, cause: unknown): Payload => ({
  kind: 'garbage',
  error: new PostgresInputError(
    'ERR_PAYLOAD_INVALID',
    `a notification that is no change arrived: ${excerpt(text)} (${reason}): send {"tbl", "id", "op"} as JSON, ` +
      `find out who else uses this channel, or set the option foreignNotifications to 'ignore'`,
    { cause },
  ),
});

const excerpt = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
