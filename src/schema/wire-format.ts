/**
 * The payload of a notification on the input's channel. It has one of these forms:
 *
 *   []                                                           There are new changes in the log.
 *   [{"mac":"..."},{"database":"..."},CHANGE,...]                 The changes of one statement, in the order of their sequences.
 *   [{"mac":"...","crowded":true},{"database":"..."},CHANGE,...]  The same; another transaction was about to notify too.
 *   {"tbl":"...","id":"...","op":"..."}                           A change that somebody announces by hand.
 *
 * A CHANGE is the JSON of a single row of the log. Anybody who can connect hears it: a row with data, or with what its transaction says
 * of itself, is never announced but by `[]`. The text between the header and the last bracket is the body. The mac is the
 * body's HMAC-SHA256, with the key in the input's secret table, of the body's bytes in UTF-8.
 *
 * A copy of the database has the same secret, and sequences of its own. So the body says which database it comes from, and the changes of
 * another one are not believed. Version 1 does not say that: its payloads make the reader look in the log. Version 1's own
 * nodes do the same with payloads of this version, whose form they do not know.
 *
 * The trigger functions make the changes, and the notify function the payload. A reader skips members of a CHANGE that it does not
 * know, and looks in the log when one is missing that it needs: versions of either side understand each other.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import * as z from 'zod';
import { quoteLiteral } from '../postgres/quoting.ts';
import { IN_PLACE_OF_ADDED, type MakeChange, TAGS, stampOf } from './log-layout.ts';
import { VERSION } from './migrations.ts';
import type { ObjectName } from './names.ts';

/** PostgreSQL takes payloads shorter than 8000 bytes (https://www.postgresql.org/docs/current/sql-notify.html). */
const MAX_BODY_BYTES = 7900;

/** Says nothing but: look in the log. */
export const LOOK = '[]';

/**
 * SQL: what tells the database from its copies. In the same cluster a copy has another oid. The server of a copy that was restored or
 * promoted elsewhere started at another time. A node's session does not outlast its server, so the node need ask only once.
 */
export const DATABASE_IDENTITY = `(SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) || '@'
  || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint`;

/** What the body has before the changes. */
const DATABASE_MEMBER = { before: '{"database":"', after: '"},' };
const DATABASE_BYTES =
  DATABASE_MEMBER.before.length + '4294967295@1767225600000000'.length + DATABASE_MEMBER.after.length;

// Writing, in SQL.

/** Whether a row of the log is too long for a notification, even alone. */
export const IS_LONG = `octet_length(id) + coalesce(octet_length(key), 0) >= ${MAX_BODY_BYTES}`;

/** The JSON of a change, from these expressions. */
const changeJson = ({ seq, xid, at, tbl, id, op, key }: Record<(typeof CHANGE_MEMBERS)[number], string>) =>
  `json_build_object(
      'seq', (${seq})::text, 'xid', ${xid}::text, 'at', ${at} AT TIME ZONE 'UTC',
      'tbl', ${tbl}, 'id', ${id}, 'op', ${op}, 'key', ${key}::json, 'version', ${VERSION})::text`;
const CHANGE_MEMBERS = ['seq', 'xid', 'at', 'tbl', 'id', 'op', 'key'] as const;

/**
 * The INSERT of single rows into the log, and what is done with these rows as the body of a notification: nothing for no rows. The body is ''
 * if it would be too long. A row that alone is too long is not turned into JSON.
 */
export const announced = (insert: string, use = (body: string): string => body): string => `WITH change AS (
      ${insert}
      RETURNING *
    )
    SELECT ${use(
      `CASE WHEN bool_or(c.long) THEN '' ELSE string_agg(${changeJson({
        seq: 'c.seq',
        xid: 'c.xid',
        at: 'c.at',
        tbl: 'c.tbl',
        id: 'c.id',
        op: 'c.op',
        key: 'c.key',
      })}, ',' ORDER BY c.seq) FILTER (WHERE NOT c.long) END`,
    )}
    FROM (SELECT ${IN_PLACE_OF_ADDED}) absent,
      LATERAL (SELECT *, ${IS_LONG} OR num_nonnulls(shape, origin, context) > 0 AS long FROM change) c
    HAVING count(*) > 0`;

/** The same for one change that is logged already, whose parts are variables; `seq` is its sequence. */
export const announcedChange = (seq: string): string => `CASE
    WHEN ${IS_LONG} OR ${Object.values(TAGS)
      .map((setting) => `coalesce(current_setting(${quoteLiteral(setting)}, true), '') <> ''`)
      .join(' OR ')} THEN ''
    ELSE ${changeJson({ seq, xid: 'pg_current_xact_id()', at: 'at', tbl: 'tbl', id: 'id', op: 'op', key: "coalesce(key, 'null')" })} END`;

/**
 * How many payloads with changes a transaction sends. Every later payload is `[]`, and NOTIFY sends equal payloads of a transaction
 * once: a transaction of any length leaves the server's notification queue, and its own memory, room.
 */
export const MAX_SIGNED = 50;

/** A setting with a dot for every payload with changes that the transaction has sent. A rollback to a savepoint restores the setting. */
const SIGNED_SO_FAR = 'postgres_input.signed_so_far';

/** The variable of a notify function that tells of no change. */
export const BARE_PAYLOAD = `
  payload text := '${LOOK}';`;

/** The variables by which the notify function makes a payload of its argument `body`. `isAlone`: whether no other transaction is about to notify. */
export const payloadVariables = (isAlone: string): string => `${BARE_PAYLOAD}
  signed record;
  so_far text := coalesce(current_setting('${SIGNED_SO_FAR}', true), '');
  header text := CASE WHEN ${isAlone} THEN '"}' ELSE '","crowded":true}' END;`;

/**
 * Makes the payload. What is signed are bytes of UTF-8: a database in another encoding is told to look in the log. So is a
 * transaction that can't see the secret, since its snapshot is older than the installation.
 */
export const signPayload = (secretTable: ObjectName): string => `
  IF body <> '' AND octet_length(body) < ${MAX_BODY_BYTES - DATABASE_BYTES} AND length(so_far) < ${MAX_SIGNED} AND getdatabaseencoding() = 'UTF8' THEN
    body := '${DATABASE_MEMBER.before}' || ${DATABASE_IDENTITY} || '${DATABASE_MEMBER.after}' || body;
    SELECT '[{"mac":"' || encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(body, 'UTF8'))), 'hex') || header || ',' || body || ']' AS payload,
      set_config('${SIGNED_SO_FAR}', so_far || '.', true)
    INTO signed FROM ${secretTable.sql} s;
    IF FOUND THEN
      payload := signed.payload;
    END IF;
  END IF;`;

// Reading, in TypeScript.

const SIGNED = /^\[\{"mac":"([0-9a-f]{64})"(,"crowded":true)?\},/;

/** Not z.record: it copies the object, and loses a column whose name is `__proto__`. */
const keyColumns = z.custom<Record<string, string>>(
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((text) => typeof text === 'string'),
);

const loggedChange = z.object({
  seq: z.string(),
  xid: z.string(),
  at: z.string(),
  tbl: z.string(),
  id: z.string(),
  op: z.string(),
  key: z.union([z.string(), keyColumns]).nullable(),
  // Version 1 of the trigger functions does not tell.
  version: z.number().optional(),
});
const announcement = z.tuple(
  [z.object({ mac: z.string() }), z.object({ database: z.string() }), loggedChange],
  loggedChange,
);

/** A change that somebody announces by hand. */
export const handmadeChange = z.object({
  tbl: z.string().min(1),
  id: z.union([z.string(), z.number(), z.null()]),
  op: z.string(),
});

export interface SignedPayload {
  readonly text: string;
  readonly body: string;
  readonly mac: string;
  readonly crowded: boolean;
}

/** By what a node knows the payloads of its own database's triggers. */
export interface Signature {
  /** The key in the secret table. */
  readonly secret: Buffer;
  /** {@link DATABASE_IDENTITY} */
  readonly database: string;
}

/** The parts of a payload that has the form of a signed one; null if it has another form. */
export function parseSigned(text: string): SignedPayload | null {
  const match = SIGNED.exec(text);
  if (!match) return null;
  const [header, mac, crowded] = match;
  return { text, body: text.slice(header.length, -1), mac: mac!, crowded: crowded !== undefined };
}

export function isAuthentic({ body, mac }: SignedPayload, { secret }: Signature): boolean {
  const expected = createHmac('sha256', secret).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(mac, 'hex'));
}

/** What a signed payload announces; null if another version of the trigger functions says it in a form that is unknown here. */
export function announcedChanges<Made>(
  { text }: SignedPayload,
  make: MakeChange<Made>,
): { database: string; changes: Made[]; xid: bigint } | null {
  const { data } = announcement.safeParse(JSON.parse(text));
  if (!data) return null;
  const [, { database }, ...changes] = data;
  // They are those of one statement. `at` is a time of UTC without its zone, and JSON's times are ISO 8601.
  const { xid, version } = changes[0];
  const at = `${changes[0].at}Z`;
  const stamp = version === undefined ? '' : stampOf(at);
  return {
    database,
    changes: changes.map((c) => make(c.seq, at, c.tbl, c.id, c.op, c.key, xid, stamp, null)),
    xid: BigInt(xid),
  };
}

/** Whether JSON of any form claims to be of our triggers. It looks no deeper than it must: brackets can be nested deeper than a call stack. */
export const claimsToBeOurs = (value: unknown): boolean =>
  [value]
    .flat()
    .some((item) => typeof item === 'object' && item !== null && ('seq' in item || 'mac' in item));
