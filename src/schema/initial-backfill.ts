/** The backfill that the installer asks for where an input reads what its tables hold already: `initial: 'read'`. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Names } from './names.ts';
import { encodeNodeMessage } from './node-channel.ts';
import type { Table } from './tables.ts';

/** SQL: the id of a new backfill. It is a time, so that no server that has lost commits gives it to another one. */
export const NEW_BACKFILL =
  '(extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 + trunc(random() * 1000)::bigint';

/** SQL: whether a backfill is not over. */
export const isOpen = (state = 'state'): string => `${state} IN ('waiting', 'running', 'paused')`;

/** SQL: about how many rows a table has. */
export const estimateOf = (relation: string): string => `(
    SELECT coalesce(greatest(sum(c.reltuples), 0), 0)::bigint FROM pg_class c
    WHERE (c.oid = ${relation} AND c.relkind = 'r') OR c.oid IN (SELECT relid FROM pg_partition_tree(${relation}) WHERE isleaf)
  )`;

/** SQL: tells the active node to look. */
export const tellOfBackfill = ({ nodeChannel }: Names): string =>
  `pg_notify(${quoteLiteral(nodeChannel)}, ${quoteLiteral(encodeNodeMessage({ kind: 'backfill' }))})`;

/**
 * The request for a table, in the step that makes the table's triggers: what is committed before comes as `read` events, all else as
 * changes. The row stays when the backfill is done, so that a table of that name is read once, whatever becomes of its triggers. In a restored
 * dump, the oid may be that of another table.
 */
export const requestInitial = (names: Names, { identity: { relation }, location }: Table): string[] => [
  `INSERT INTO ${names.backfillTable.sql} (backfill, relation, location, is_initial, state, estimated)
SELECT ${NEW_BACKFILL}, ${relation}, ${quoteLiteral(location)}, true, 'waiting', ${estimateOf(relation)}
WHERE NOT EXISTS (SELECT FROM ${names.backfillTable.sql} WHERE relation = ${relation} AND location = ${quoteLiteral(location)} AND is_initial)`,
  `SELECT ${tellOfBackfill(names)}`,
];
