/**
 * One table as a backfill reads it: in the order of its primary key, by the operators of the key's own index. A table without a key is read
 * in the order of its blocks, and so is one whose key is WITHOUT OVERLAPS: the index of such a key has no order.
 *
 * The rows of a partitioned table are read by their root. The rows of tables that inherit from a table are not that table's: each is
 * watched, and read, under its own name.
 *
 * A chunk is the next so many rows. The condition is tested afterwards, so that a condition that holds for few rows makes no statement
 * long. A chunk ends earlier with the row that brings it to CHUNK_BYTES, as the rows are stored.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Settings } from '../config/settings.ts';
import type { Part } from '../postgres/batch.ts';
import { qualify, quoteIdentifier } from '../postgres/quoting.ts';
import type { Session, Statement } from '../postgres/session.ts';
import { PRINTING } from '../schema/create-function.ts';
import type { Key } from '../schema/log-layout.ts';
import { locationOf } from '../schema/names.ts';
import { type Column, columnsOf } from '../schema/row-data.ts';
import { type RowIdentity, hasOneKey, identityQuery } from '../schema/row-identity.ts';
import { passes } from '../schema/table-filter.ts';
import { loggedColumns, optionsFor, wantsRows } from '../schema/table-options.ts';
import type { RowShape } from './row-shapes.ts';

/** A column of the key: its SQL over a row `r`, its type with the collation, and the operators of the index. */
interface KeyColumn {
  readonly column: string;
  readonly type: string;
  readonly greater: string;
  readonly equal: string;
}

interface Description {
  readonly schema: string;
  readonly name: string;
  /** Those of the root, where the table has become a partition; else its own. */
  readonly rootSchema: string;
  readonly rootName: string;
  readonly isPartitioned: boolean;
  readonly mayRead: boolean;
  readonly isFiltered: boolean;
  /** The files that the rows are in. */
  readonly files: string;
  readonly columns: readonly Column[];
  readonly identity: RowIdentity;
  readonly key:
    | readonly (Omit<KeyColumn, 'column'> & { readonly name: string; readonly atLeast: string })[]
    | null;
}

/** SQL: the type of a key column, and its collation unless that is the type's own. The order of the rows depends on both. */
const type = `format_type(a.atttypid, a.atttypmod) || coalesce((
    SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
    FROM pg_type t
    JOIN pg_collation c ON c.oid = a.attcollation AND c.oid <> t.typcollation
    JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE t.oid = a.atttypid
  ), '')`;

/** SQL: the operator of a key column's operator class that has this strategy, qualified. */
const operator = (strategy: number): string => `(
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass c
    JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = ${strategy}
      AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
    JOIN pg_operator o ON o.oid = m.amopopr
    JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE c.oid = k.opclass
  )`;

// $1: the table's oid. $2: whether columns are told.
const description = `
SELECT n.nspname AS schema, candidate.relname AS name, rn.nspname AS "rootSchema", root.relname AS "rootName", candidate.relkind = 'p' AS "isPartitioned",
  has_table_privilege(candidate.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS "mayRead", row_security_active(candidate.oid) AS "isFiltered",
  (
    SELECT concat(string_agg(pg_relation_filenode(part)::text, ',' ORDER BY part))
    FROM (
      SELECT candidate.oid AS part WHERE candidate.relkind = 'r'
      UNION ALL SELECT relid FROM pg_partition_tree(candidate.oid) WHERE isleaf AND candidate.relkind = 'p'
    ) parts
  ) AS files,
  CASE WHEN $2 THEN ${columnsOf('candidate.oid')} ELSE '[]' END AS columns, row_to_json(identity) AS identity,
  (
    SELECT json_agg(json_build_object('name', a.attname, 'type', ${type},
      'greater', ${operator(5)}, 'equal', ${operator(3)}, 'atLeast', ${operator(4)}) ORDER BY k.position)
    FROM pg_index x
    CROSS JOIN LATERAL unnest(x.indkey::int2[], x.indclass::oid[]) WITH ORDINALITY k (attnum, opclass, position)
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
    JOIN pg_class i ON i.oid = x.indexrelid AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
    WHERE x.indrelid = candidate.oid AND x.indisprimary AND k.position <= x.indnkeyatts
  ) AS key
FROM pg_class candidate
JOIN pg_namespace n ON n.oid = candidate.relnamespace
JOIN pg_class root ON root.oid = CASE WHEN candidate.relispartition THEN pg_partition_root(candidate.oid)::oid ELSE candidate.oid END
JOIN pg_namespace rn ON rn.oid = root.relnamespace
CROSS JOIN LATERAL (${identityQuery('candidate.oid', 'pg_attribute')}) identity
WHERE candidate.oid = $1::oid AND candidate.relkind IN ('r', 'p')`;

const find: Statement = {
  name: 'backfill_table',
  text: `SELECT row_to_json(description)::text AS described FROM (${description}) description`,
};

/** The snapshot of a transaction, and the same description as the transaction sees it. */
const findWithSnapshot = `
SELECT pg_current_snapshot()::text, row_to_json(description)::text FROM (${description}) description`;

/** By these, the rows of a table without a key are told from each other until they change. */
const PLACE: readonly KeyColumn[] = [
  { column: 'r.ctid', type: 'tid', greater: 'OPERATOR(pg_catalog.>)', equal: 'OPERATOR(pg_catalog.=)' },
  { column: 'r.tableoid', type: 'oid', greater: 'OPERATOR(pg_catalog.>)', equal: 'OPERATOR(pg_catalog.=)' },
];

const INTEGERS: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint']);

/** About so many bytes are in a chunk, as they are stored. */
const CHUNK_BYTES = 500_000;
/** What takes more bytes as it is stored than so many times what it may print is not printed. */
const STORED = 8;
/** Blocks at once of a table without a key, for each hundred rows of a chunk. */
const BLOCKS = 4;

/**
 * A row that was read: null for all but its place in the order where the condition does not hold. Where the ids are the values of the key, a row has
 * no key, and either an id or a place.
 */
export type ChunkRow = [
  id: string | null,
  key: string | null,
  after: string | null,
  ...place: (string | null)[],
];

/** Which tables are watched, and what events have of their rows. */
export type RowSettings = Pick<Settings, 'schemas' | 'tables' | 'watch' | 'rows' | 'maxRowBytes'>;

/** This node does not watch the table: it can't know which columns may be shown. Another node may, as in a rolling deployment. */
export class NotWatchedError extends Error {}

export class BackfillTable {
  readonly schema: string;
  readonly name: string;
  /** As the events of the table's changes have it. */
  readonly location: string;
  /** Changes whenever cursors of before mean nothing any more. */
  readonly keyColumns: string;
  /** The columns of `after`; null where the input asks for no rows. */
  readonly shape: RowShape | null;
  /** What the server said of the table. */
  readonly described: string;
  readonly #description: Description;
  readonly #key: readonly KeyColumn[];
  readonly #maxRowBytes: number | null;
  /** The key's only column, if the ids are its values. */
  readonly #idColumn: string | null;

  private constructor(described: string, found: Description, maxRowBytes: number | null) {
    this.described = described;
    this.#description = found;
    this.#maxRowBytes = maxRowBytes;
    this.schema = found.schema;
    this.name = found.name;
    this.location = locationOf(found.rootSchema, found.rootName);
    this.#idColumn = hasOneKey(found.identity) ? found.key![0]!.name : null;
    this.#key =
      found.key?.map(({ name, type, greater, equal }) => ({
        type,
        greater,
        equal,
        column: `r.${quoteIdentifier(name)}`,
      })) ?? PLACE;
    // Backfills that run have it in this form, to the letter.
    this.keyColumns = JSON.stringify(found.key ? this.#key : [...PLACE, found.files]);
    this.shape = maxRowBytes === null ? null : found.columns.map(({ name, type }) => [name, type]);
  }

  /**
   * The table as it is now; null if it is gone. Of its columns, those that its events have.
   * @throws {PostgresInputError} ERR_INSTALL if the role in use may not read all rows
   * @throws {NotWatchedError}
   */
  static async find(
    session: Session,
    relation: string,
    settings: RowSettings,
  ): Promise<BackfillTable | null> {
    const [row] = await session.query<{ described: string }>(find, [relation, wantsRows(settings)]);
    if (!row) return null;
    const found = JSON.parse(row.described) as Description;
    const { schema, name, rootSchema, rootName, mayRead, isFiltered } = found;
    const options = optionsFor(settings, rootSchema, rootName);
    if (!options || !settings.schemas.includes(rootSchema) || !passes(settings.tables, rootSchema, rootName))
      throw new NotWatchedError(`${qualify(schema, name)} is not watched`);
    const logged = loggedColumns(options, found.columns);
    const columns = found.columns.filter((column) => logged?.includes(column.name) ?? true);
    const maxRowBytes = (options.rows ?? settings.rows) === 'none' ? null : settings.maxRowBytes;
    if (!mayRead) throw unreadable(schema, name);
    if (isFiltered)
      throw new PostgresInputError(
        'ERR_INSTALL',
        `row security hides rows of ${qualify(schema, name)} from the role of the nodes: give the role BYPASSRLS`,
      );
    return new BackfillTable(row.described, { ...found, columns }, maxRowBytes);
  }

  /** Whether the rows have no key, so that a chunk is a range of blocks. */
  get isByPlace(): boolean {
    return this.#description.key === null;
  }

  /** Whether the key is one integer, of at most 64 bits. */
  get isByInteger(): boolean {
    const [key, ...others] = this.#description.key ?? [];
    return key !== undefined && others.length === 0 && INTEGERS.has(key.type);
  }

  /** The event's key. */
  keyOf([, key]: ChunkRow): Key {
    return key === null ? this.#idColumn : (JSON.parse(key) as Key);
  }

  /** The row's place in the order. */
  placeOf([id, , , ...place]: ChunkRow): string[] {
    return this.#idColumn !== null && id !== null ? [id] : (place as string[]);
  }

  /** Keeps the table from being rewritten or dropped. */
  get lock(): Part {
    const only = this.#description.isPartitioned ? '' : 'ONLY ';
    return { text: `LOCK TABLE ${only}${qualify(this.schema, this.name)} IN ACCESS SHARE MODE` };
  }

  /** The transaction's snapshot, and a text that equals `described` as long as the table is the one that is described. */
  static snapshot(relation: string, settings: RowSettings): Part {
    // To plan it takes longer than to run it.
    const name = 'backfill_snapshot';
    return { name, text: findWithSnapshot, values: [relation, String(wantsRows(settings))] };
  }

  /** How many blocks the table has. */
  get blocks(): Part {
    const whole = qualify(this.schema, this.name);
    const relations = this.#description.isPartitioned
      ? '(SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf)'
      : '(SELECT $1::regclass AS relid)';
    return {
      text: `SELECT coalesce(max(pg_relation_size(relid)), 0) / current_setting('block_size')::bigint AS blocks FROM ${relations} part`,
      values: [whole],
    };
  }

  /** The block at which a chunk of so many rows ends at the latest, which begins after `after`. */
  endOf(after: readonly string[], limit: number): number {
    return blockOf(after) + Math.ceil(limit / 100) * BLOCKS;
  }

  /**
   * A query of the rows after `after`, at most `limit`. A row for which `condition` does not hold is brought as its place alone. `withData`:
   * false where the rows can't be printed.
   */
  chunk(
    after: readonly string[],
    limit: number,
    condition: string | null,
    withData = true,
  ): Required<Omit<Part, 'name'>> {
    const { identity, isPartitioned, columns, schema, name } = this.#description;
    // No value but these has a parameter: a condition with one is refused when it is tested, without any.
    const values = [...after];
    const order = this.#key.map(({ column }) => column).join(', ');
    const conditions = after.length > 0 ? [this.#isAfter()] : [];
    if (this.isByPlace) {
      const [from, end] = [blockOf(after), this.endOf(after, limit)];
      conditions.push(
        `r.ctid OPERATOR(pg_catalog.>=) '(${from},0)'::tid AND r.ctid OPERATOR(pg_catalog.<) '(${end},0)'::tid`,
      );
    }
    const wide = columns.filter(({ isShort }) => !isShort);
    const size =
      wide.length === 0
        ? '0'
        : `(${wide.map((column) => `coalesce(pg_column_size(r.${quoteIdentifier(column.name)})::bigint, 0)`).join(' + ')})`;
    const max = this.#maxRowBytes;
    const row = `concat(ROW(${columns.map((column) => `r.${quoteIdentifier(column.name)}`).join(', ')}))`;
    const printed =
      max === null
        ? 'NULL'
        : withData
          ? `CASE WHEN ${size} <= ${STORED * max + 8192} THEN ${row} END`
          : `'unreadable'`;
    const place = this.isByPlace
      ? `, r.ctid AS "postgres_input ctid", r.tableoid AS "postgres_input table"`
      : '';
    const cursor = this.isByPlace
      ? ['concat(r."postgres_input ctid")', 'concat(r."postgres_input table")']
      : this.#key.map(({ column }) => `concat(${column})`);
    const places = cursor.map((_, i) => `place_${i}`);
    const isNamed = this.#idColumn !== null;
    const test =
      condition === null
        ? '(SELECT true AS wanted) w'
        : `LATERAL (SELECT coalesce((\n${condition}\n), false) AS wanted FROM (SELECT r.*) ${quoteIdentifier(name)}) w`;
    const text = `
SELECT id, key, CASE WHEN NOT wanted OR ${max === null} THEN NULL WHEN octet_length(after) <= ${max ?? 0} THEN after ELSE 'too-large' END, ${isNamed ? 'CASE WHEN NOT wanted THEN place_0 END' : places.join(', ')}
FROM (
  SELECT ${cursor.map((sql, i) => `${sql} AS ${places[i]}`).join(', ')}, w.wanted, CASE WHEN w.wanted THEN ${identity.id} END AS id, ${isNamed ? 'NULL::text' : `CASE WHEN w.wanted THEN ${identity.key} END`} AS key,
    CASE WHEN w.wanted THEN ${printed} END AS after
  FROM (
    SELECT r.*, sum(${size}) OVER (ROWS UNBOUNDED PRECEDING) - ${size} AS "postgres_input before"
    FROM (
      SELECT r.*${place} FROM ${isPartitioned ? '' : 'ONLY '}${qualify(schema, name)} r
      ${conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''}
      ORDER BY ${order} LIMIT ${limit}
    ) r
    OFFSET 0
  ) r, ${test}
  WHERE r."postgres_input before" < ${CHUNK_BYTES}
  OFFSET 0
) read`;
    return { text, values };
  }

  /** A comparison of whole keys walks the index. It needs one operator for all columns; else that of the first column does. */
  #isAfter(): string {
    const value = (i: number) => `$${i + 1}::${this.#key[i]!.type}`;
    const [{ column: first, greater }] = this.#key as [KeyColumn];
    if (this.#key.every((column) => column.greater === greater)) {
      if (this.#key.length === 1) return `${this.#key[0]!.column} ${greater} ${value(0)}`;
      return `ROW(${this.#key.map(({ column }) => column).join(', ')}) ${greater} ROW(${this.#key.map((_, i) => value(i)).join(', ')})`;
    }
    const from = (i: number): string => {
      const { column, greater: above, equal } = this.#key[i]!;
      const isAbove = `${column} ${above} ${value(i)}`;
      return i + 1 === this.#key.length
        ? isAbove
        : `(${isAbove} OR (${column} ${equal} ${value(i)} AND ${from(i + 1)}))`;
    };
    return `${first} ${this.#description.key![0]!.atLeast} ${value(0)} AND ${from(0)}`;
  }
}

export const unreadable = (schema: string, name: string): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `the role of the nodes may not read ${qualify(schema, name)}: grant it USAGE on the schema and SELECT on the table, as ` +
      '`plan --grant-to ROLE --backfill` prints',
  );

const blockOf = ([after]: readonly string[]): number =>
  after === undefined ? 0 : Number(/^\((\d+),/.exec(after)![1]);

/** The place before the first row of a block. */
export const beginningOf = (block: number): string[] => [`(${block},0)`, '0'];

/** For how long the server works on a statement of a chunk, in milliseconds. Live changes wait for a chunk. */
export const CHUNK_LIMIT = 2000;

/** The statements that begin a chunk's transaction. They take no snapshot. */
export const beginChunk: readonly string[] = [
  'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
  'SET LOCAL lock_timeout = 100',
  `SET LOCAL statement_timeout = ${CHUNK_LIMIT}`,
  ...PRINTING.map((setting) => `SET LOCAL ${setting.replace('=', " = '")}'`),
];

/** A condition may name functions and operators that lie beside its table, in this schema. */
export const searchBeside = (schema: string): string =>
  `SET LOCAL search_path = pg_catalog, ${quoteIdentifier(schema)}`;
