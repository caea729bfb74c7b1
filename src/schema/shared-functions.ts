/** The DDL text of the functions that all triggers share. */
import type { Settings } from '../config/settings.ts';
import { quoteLiteral } from '../postgres/quoting.ts';
import { DELETES_FIRST, type RowEvent, changedRows } from './changed-rows.ts';
import { type FunctionText, SEARCH_PATH } from './create-function.ts';
import { insertPacked, insertSingle, sequenceOfRow } from './log-layout.ts';
import { type Names, type TriggerEvent, locationByNames } from './names.ts';
import { presentIdentity } from './row-identity.ts';
import {
  BARE_PAYLOAD,
  IS_LONG,
  announced,
  announcedChange,
  payloadVariables,
  signPayload,
} from './wire-format.ts';

/** The functions that all triggers share. */
export const sharedFunctions = (names: Names, notifications: Settings['notifications']): FunctionText[] => [
  identityFunction(names),
  guardFunction(names),
  locationFunction(names),
  notifyFunction(names, notifications),
  announceFunction(names, notifications),
  statementFunction(names),
];

export const sharedFunctionNames = (names: Names): string[] =>
  sharedFunctions(names, 'changes').map(({ name }) => name);

/** Returns what identifies a row of a table now. */
const identityFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.identityFunction.name,
  signature: `${names.identityFunction.sql}(relation oid)`,
  returns: 'TABLE (id text, key text, match text)',
  language: 'sql',
  settings: [SEARCH_PATH],
  body: presentIdentity('relation'),
});

/**
 * Returns whether the key's columns still have their names, and so has the column `id` if it is not part of the key.
 *
 * Calling it for every statement would cost too much. Its result depends on the table's definition alone, and its arguments are
 * constants. So it is declared immutable: PostgreSQL calls it when a session plans the condition, and plans anew when the table's
 * definition has changed, since a plan depends on the relations whose oids it names (as in nextval('sequence'::regclass)).
 * It uses functions that read the session's catalog cache, and no catalog table: the transaction's snapshot may show an older state.
 */
const guardFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.guardFunction.name,
  signature: `${names.guardFunction.sql}(relation oid, index oid, key text[], id integer)`,
  returns: 'boolean',
  language: 'sql',
  volatility: 'IMMUTABLE',
  settings: [SEARCH_PATH],
  body: `
SELECT NOT EXISTS (
  SELECT FROM unnest(key) WITH ORDINALITY k (name, position)
  WHERE pg_get_indexdef(index, position::integer, true) IS DISTINCT FROM quote_ident(name)
) AND (
  id IS NULL
  OR (pg_identify_object_as_address('pg_class'::regclass, relation, id)).object_names[3] IS NOT DISTINCT FROM 'id'
)`,
});

/**
 * Returns the location of a table. It is immutable for the guard's reason, and reads the session's catalog cache as well: a plan has the location
 * as a constant, until the table or its schema is renamed.
 */
const locationFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.locationFunction.name,
  signature: `${names.locationFunction.sql}(relation oid)`,
  returns: 'text',
  language: 'sql',
  volatility: 'IMMUTABLE',
  settings: [SEARCH_PATH],
  body: `
SELECT ${locationByNames('parts[1]', 'parts[2]')}
FROM (SELECT (pg_identify_object_as_address('pg_class'::regclass, relation, 0)).object_names AS parts) address`,
});

/**
 * Signs changes and sends them. If the body is empty or too long, or the transaction has sent many payloads, it sends `[]`: look in the
 * log. The payload says whether another transaction is about to notify too: transactions that notify commit one after the other.
 * Bare notifications are all `[]`, of which PostgreSQL sends one for each transaction.
 */
const notifyFunction = (names: Names, notifications: Settings['notifications']): FunctionText => ({
  input: names.id,
  name: names.notifyFunction.name,
  signature: `${names.notifyFunction.sql}(body text)`,
  returns: 'void',
  language: 'plpgsql',
  settings: [SEARCH_PATH],
  // The function pg_notify has one plan, and one entry in pg_stat_statements. Somebody may have revoked it; the command NOTIFY needs no
  // privilege.
  body: `
DECLARE${notifications === 'bare' ? BARE_PAYLOAD : payloadVariables(`pg_try_advisory_xact_lock(${names.notifyingKey})`)}
BEGIN${notifications === 'bare' ? '' : signPayload(names.secretTable)}
  IF has_function_privilege('pg_notify(text, text)'::regprocedure, 'EXECUTE') THEN
    PERFORM pg_notify(${quoteLiteral(names.channel)}, payload);
  ELSE
    EXECUTE format('NOTIFY %I, %L', ${quoteLiteral(names.channel)}, payload);
  END IF;
END`,
});

/**
 * Announces the only change of a statement, which the session has just logged: the change has the number that the session drew last from the log's
 * sequence. What nobody may hear is announced without the change.
 */
const announceFunction = (names: Names, notifications: Settings['notifications']): FunctionText => ({
  input: names.id,
  name: names.announceFunction.name,
  signature: `${names.announceFunction.sql}(at timestamptz, tbl text, id text, op text, key text)`,
  returns: 'void',
  language: 'plpgsql',
  settings: [SEARCH_PATH],
  body: `
BEGIN
  PERFORM ${names.notifyFunction.sql}(${notifications === 'bare' ? "''" : announcedChange(sequenceOfRow(`currval(${quoteLiteral(names.logSequence.sql)}::regclass)`))});
END`,
});

/** Whether the reader is awake, or there is none: the transaction then keeps its share of the sleep lock. */
export const isAwake = ({ sleepKey }: Names): string => `pg_try_advisory_xact_lock_shared(${sleepKey})`;

/**
 * Returns the statement that logs what a trigger function has no statement for. It is here, and run as dynamic SQL, since a function's own
 * text takes memory in every session for every table. It reads the transition tables, so the trigger function itself has to run it.
 *
 * `events` is the statement's event, followed by what an UPDATE of the key may be logged as. `changes` is the query of the changes; NULL if the table has changed since the function was made: then the catalog is asked. $1 of the
 * statement: the location. $2: the time.
 */
const statementFunction = (names: Names): FunctionText => {
  const source = { tbl: '$1', at: '$2' };
  const single = `${insertSingle(names.logTable, { ...source, id: 'c.id', op: 'c.op', key: 'c.key' })} FROM (${CHANGES_HERE}) c ORDER BY ${DELETES_FIRST}`;
  const packed = insertPacked(names.logTable, source, CHANGES_HERE, {
    isLong: IS_LONG,
    order: DELETES_FIRST,
  });
  const telling = announced(single, (body) => `${names.notifyFunction.sql}(${body})`);
  const look = `WITH change AS (
      ${packed}
      RETURNING seq
    )
    SELECT ${names.notifyFunction.sql}('') FROM change LIMIT 1`;
  const present = (event: RowEvent, match: string | null, events: readonly TriggerEvent[] = []) => {
    const places = { id: '\u0001', key: '\u0002', match: match === null ? null : '\u0003' };
    const text = changedRows(event, { events: new Set(events) }, places, null).replaceAll('%', '%%');
    return quoteLiteral(
      text.replaceAll('\u0001', '%1$s').replaceAll('\u0002', '%2$s').replaceAll('\u0003', '%3$s'),
    );
  };
  const pairing = (events: readonly TriggerEvent[]) => present('update', 'match', events);
  return {
    input: names.id,
    name: names.statementFunction.name,
    signature: `${names.statementFunction.sql}(relation oid, events text, changes text, few boolean)`,
    returns: 'text',
    language: 'plpgsql',
    settings: [SEARCH_PATH],
    body: `
DECLARE
  awake boolean := ${isAwake(names)};
BEGIN
  IF changes IS NULL THEN
    few := false;
    SELECT format(CASE
      WHEN events = 'insert' THEN ${present('insert', null)}
      WHEN events = 'delete' THEN ${present('delete', null)}
      WHEN now_known.match IS NULL THEN ${present('update', null)}
      WHEN events = 'update insert delete' THEN ${pairing(['insert', 'delete'])}
      WHEN events = 'update insert' THEN ${pairing(['insert'])}
      WHEN events = 'update delete' THEN ${pairing(['delete'])}
      ELSE ${pairing([])} END, now_known.id, now_known.key, now_known.match)
    INTO changes FROM ${names.identityFunction.sql}(relation) now_known;
  END IF;
  RETURN replace(CASE
    WHEN few AND awake THEN ${quoteLiteral(single)}
    WHEN few THEN ${quoteLiteral(telling)}
    WHEN awake THEN ${quoteLiteral(packed)}
    ELSE ${quoteLiteral(look)} END, '${CHANGES_HERE}', changes);
END`,
  };
};
const CHANGES_HERE = '$changes$';
