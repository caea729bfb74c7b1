/** Checks the conditions `when` before they are installed: a condition that could never be evaluated is refused. */
import type { UnwatchableTable } from '../api/installation.ts';
import type { Session } from '../postgres/session.ts';
import { isConnectionError } from '../postgres/sqlstates.ts';
import { locationOf } from './names.ts';
import { columnsIn, explainWhen } from './row-filter.ts';
import type { Table } from './tables.ts';

/** The tables whose condition the server takes, and the others. */
export async function checkConditions(
  session: Session,
  tables: readonly Table[],
): Promise<{ tables: readonly Table[]; left: readonly Table[]; unwatchable: readonly UnwatchableTable[] }> {
  const conditional = tables.filter(({ options }) => options.when !== undefined);
  if (conditional.length === 0) return { tables, left: [], unwatchable: [] };
  const types = await session.query<{ oid: string; name: string }>(
    `SELECT t.oid, format('%I.%I', n.nspname, t.typname) AS name FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = ANY ($1)`,
    [[...new Set(conditional.flatMap(({ columns }) => columns!.map(({ type }) => type)))]],
  );
  const typeNames = new Map(types.map(({ oid, name }) => [Number(oid), name]));
  const refused = new Map<Table, UnwatchableTable>();
  for (const table of conditional) {
    const columns = table.columns!;
    const when = table.options.when!;
    try {
      await session.query(explainWhen(when, columnsIn(when, columns), typeNames), [true]);
    } catch (error) {
      if (isConnectionError(error)) throw error;
      const there = columns.map(({ name }) => name).join(', ');
      const reason = `when: ${(error as Error).message}; its rows \`before\` and \`after\` have the columns ${there}`;
      refused.set(table, { table: locationOf(table.schema, table.name), reason });
    }
  }
  return {
    tables: tables.filter((table) => !refused.has(table)),
    left: [...refused.keys()],
    unwatchable: [...refused.values()],
  };
}
