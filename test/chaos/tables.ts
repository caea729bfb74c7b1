/**
 * The tables of a run. Each row has a number `r` for life, a generation `g` that a change of its key raises, and a
 * version `v` that every change raises. All other columns follow from these three, so that the events which a change
 * must become are known from `r`, `g` and `v` alone, without asking the database.
 */
import type { Random } from './random.ts';

export interface Row {
  readonly r: number;
  readonly g: number;
  readonly v: number;
}

export interface ChaosTable {
  /** Quoted and qualified. */
  readonly sql: string;
  /** What the events must say. */
  readonly location: string;
  /** The statements that make it. */
  readonly ddl: readonly string[];
  /** Columns beside r, g and v, and the SQL that makes them of those. */
  readonly columns: readonly (readonly [name: string, value: (r: string, g: string, v: string) => string])[];
  /** What an event about the row must say. */
  readonly identity: (row: Row) => { id: string; key: Record<string, string> | null };
  readonly canChangeKey: boolean;
  /** Whether its rows are told apart by their events, so that the order of one row's changes can be checked. */
  readonly tellsRowsApart: boolean;
  /** Rows are never deleted here, which lets INSERT ... ON CONFLICT be foretold. */
  readonly isUpserted: boolean;
}

/** What a truncation of the table is in the model: a change of no row. */
export const truncated = (table: ChaosTable): ChaosTable => ({
  ...table,
  identity: () => ({ id: '*', key: null }),
  tellsRowsApart: false,
});

type Kind = Pick<ChaosTable, 'columns' | 'identity' | 'canChangeKey' | 'tellsRowsApart'> & {
  readonly create: (sql: string) => string[];
};

const keyNumber = (r: string, g: string) => `(${r}::bigint * 1000 + ${g})`;
const keyOf = ({ r, g }: Row) => String(r * 1000 + g);
const uuidOf = ({ r, g }: Row) => `00000000-0000-4000-8000-${(r * 1000 + g).toString(16).padStart(12, '0')}`;
const ROW = 'r int NOT NULL, g int NOT NULL, v int NOT NULL';

const kinds = {
  /** The ordinary table. */
  numbered: {
    create: (sql) => [`CREATE TABLE ${sql} (id bigint PRIMARY KEY, ${ROW})`],
    columns: [['id', keyNumber]],
    identity: (row) => ({ id: keyOf(row), key: { id: keyOf(row) } }),
    canChangeKey: true,
    tellsRowsApart: true,
  },
  uuid: {
    create: (sql) => [`CREATE TABLE ${sql} (id uuid PRIMARY KEY, ${ROW})`],
    columns: [
      ['id', (r, g) => `('00000000-0000-4000-8000-' || lpad(to_hex${keyNumber(r, g)}, 12, '0'))::uuid`],
    ],
    identity: (row) => ({ id: uuidOf(row), key: { id: uuidOf(row) } }),
    canChangeKey: true,
    tellsRowsApart: true,
  },
  /** Its id is not its key and differs from version to version: every event says which change it is. */
  versioned: {
    create: (sql) => [`CREATE TABLE ${sql} ("Key" bigint PRIMARY KEY, id text, ${ROW})`],
    columns: [
      ['"Key"', keyNumber],
      ['id', (r, _g, v) => `(${r} || ':' || ${v})`],
    ],
    identity: (row) => ({ id: `${row.r}:${row.v}`, key: { Key: keyOf(row) } }),
    canChangeKey: true,
    tellsRowsApart: true,
  },
  paired: {
    create: (sql) => [`CREATE TABLE ${sql} (a int, ${ROW}, "b b" text, PRIMARY KEY (a, "b b"))`],
    columns: [
      ['a', (r) => `(${r} % 7)`],
      ['"b b"', (r, g) => `(${r} || '/"' || ${g})`],
    ],
    identity: ({ r, g }) => {
      const key = { a: String(r % 7), 'b b': `${r}/"${g}` };
      return { id: JSON.stringify(Object.values(key)), key };
    },
    canChangeKey: true,
    tellsRowsApart: true,
  },
  /** A change of key moves a row from one partition to another. */
  partitioned: {
    create: (sql) => [
      `CREATE TABLE ${sql} (id bigint PRIMARY KEY, ${ROW}) PARTITION BY HASH (id)`,
      ...[0, 1, 2].map(
        (n) =>
          `CREATE TABLE ${sql.slice(0, -1)} ${n}" PARTITION OF ${sql} FOR VALUES WITH (MODULUS 3, REMAINDER ${n})`,
      ),
    ],
    columns: [['id', keyNumber]],
    identity: (row) => ({ id: keyOf(row), key: { id: keyOf(row) } }),
    canChangeKey: true,
    tellsRowsApart: true,
  },
  /** No key, but an id that differs from version to version. */
  keyless: {
    create: (sql) => [`CREATE TABLE ${sql} (id text, ${ROW})`],
    columns: [['id', (r, _g, v) => `(${r} || ':' || ${v})`]],
    identity: (row) => ({ id: `${row.r}:${row.v}`, key: null }),
    canChangeKey: false,
    tellsRowsApart: true,
  },
  /** Nothing that an event could say about its rows: they can only be counted. */
  anonymous: {
    create: (sql) => [`CREATE TABLE ${sql} (${ROW})`],
    columns: [],
    identity: () => ({ id: '', key: null }),
    canChangeKey: false,
    tellsRowsApart: false,
  },
} satisfies Record<string, Kind>;

/** Schemas whose tables are watched. */
export const SCHEMAS = ['public', 'Other Schema'];

const NAMES = ['orders', 'Order Lines', 'a-b', 'prüfung', 'select', 'x"y', "it's", 'UPPER', 'items', '%s'];

export function randomTables(random: Random): ChaosTable[] {
  const chosen: (keyof typeof kinds)[] = ['numbered', 'numbered', 'versioned', 'keyless'];
  const others = Object.keys(kinds) as (keyof typeof kinds)[];
  while (chosen.length < 6) chosen.push(random.pick(others));
  const names = [...NAMES];
  return chosen.map((kind, index) => {
    const name = names.splice(random.int(0, names.length - 1), 1)[0]!;
    const schema = random.pick(SCHEMAS);
    const sql = [schema, name].map((part) => `"${part.replaceAll('"', '""')}"`).join('.');
    const { create, ...table }: Kind = kinds[kind];
    return {
      ...table,
      sql,
      location: schema === 'public' ? name : `${schema}.${name}`,
      ddl: [...create(sql), ...(kind === 'anonymous' ? [] : [`CREATE INDEX ON ${sql} (r)`])],
      isUpserted: index === 0,
    };
  });
}
