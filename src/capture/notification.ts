/**
 * Decides what a notification's payload is worth.
 *
 * Anybody who can connect can send a notification. So our triggers sign what they announce, and a payload with sequences or a mac is
 * believed only if the signature is right. Any other payload is somebody's own notification, such as the original sends. It is
 * believed if it has the right form.
 */
import * as z from 'zod';
import { PostgresInputError } from '../api/errors.ts';
import { type Operation, parseOperation } from '../api/orchestrator.ts';
import {
  LOOK,
  type Signature,
  type SignedPayload,
  announcedChanges,
  claimsToBeOurs,
  handmadeChange,
  isAuthentic,
  parseSigned,
} from '../schema/wire-format.ts';
import { type Change, changeOf, foreignChange } from './change.ts';

export type Payload =
  /** Changes of one statement, and the transaction that made them. `crowded`: another transaction was about to notify too. */
  | {
      readonly kind: 'changes';
      readonly changes: readonly Change[];
      readonly xid: bigint;
      readonly crowded: boolean;
    }
  /** There are new changes in the log. */
  | { readonly kind: 'look' }
  /** A change that somebody announced by hand: it is in no log. */
  | { readonly kind: 'foreign'; readonly change: Change }
  /** It claims to be from our triggers, and is not, or is from those of a copy of the database. */
  | { readonly kind: 'forged' }
  /** It is no change at all. */
  | { readonly kind: 'garbage'; readonly error: PostgresInputError };

/** Reads a payload; `signature` is that of our triggers. */
export function readPayload(text: string, signature: Signature): Payload {
  if (text === LOOK) return { kind: 'look' };
  const signed = parseSigned(text);
  if (signed) return isAuthentic(signed, signature) ? announced(signed, signature) : { kind: 'forged' };

  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    return garbage(text, 'it is not JSON', cause);
  }
  if (claimsToBeOurs(value)) return { kind: 'forged' };
  const { data, error } = handmadeChange.safeParse(value);
  if (error) return garbage(text, z.prettifyError(error).replaceAll('\n', ' '), error);
  try {
    return { kind: 'foreign', change: foreign(data, parseOperation(data.op), text) };
  } catch (cause) {
    return garbage(text, (cause as Error).message, cause);
  }
}

/** Unknown form, from another version's triggers: read the log instead. */
function announced(payload: SignedPayload, { database }: Signature): Payload {
  const announcement = announcedChanges(payload, changeOf);
  if (!announcement) return { kind: 'look' };
  if (announcement.database !== database) return { kind: 'forged' };
  const { changes, xid } = announcement;
  return { kind: 'changes', changes, xid, crowded: payload.crowded };
}

function foreign(data: z.output<typeof handmadeChange>, operation: Operation, text: string): Change {
  const id = typeof data.id === 'number' ? numberAsWritten(data.id, text) : (data.id ?? '');
  return foreignChange(data.tbl, operation, id);
}

/** JSON.parse rounds large numbers, whose digits are still in the text. */
function numberAsWritten(value: number, text: string): string {
  if (Number.isSafeInteger(value)) return String(value);
  const written = [...text.matchAll(/"id"\s*:\s*(-?[\d.eE+-]+)/g)].map(([, digits]) => digits);
  return written.findLast((digits) => Number(digits) === value) ?? String(value);
}

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
