/** Finds triggers of others that have the names of ours: a table has no two triggers of one name. */
import type { Session, Statement } from '../postgres/session.ts';
import { COMPARISON_TIMEOUT } from './catalog.ts';
import { locationOf } from './names.ts';
import type { TableStep } from './table-step.ts';

// $1: the names of the triggers that are to be created.
const namesakes: Statement = {
  name: 'trigger_namesakes',
  text: `
SELECT n.nspname AS schema, c.relname AS name, t.tgname AS trigger, t.tgfoid::regproc::text AS function
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname = ANY ($1)`,
};

interface Namesake {
  readonly schema: string;
  readonly name: string;
  readonly trigger: string;
  readonly function: string;
}

/** Why steps can't create their triggers, by table. */
export async function readClashes(
  session: Session,
  steps: readonly TableStep[],
): Promise<ReadonlyMap<string, string>> {
  const created = new Map(steps.map(({ table, created }) => [table, created]));
  const wanted = [...new Set(steps.flatMap((step) => step.created))];
  if (wanted.length === 0) return new Map();
  const found = await session.query<Namesake>(namesakes, [wanted], COMPARISON_TIMEOUT);
  return new Map(
    found
      .map((namesake) => ({ ...namesake, table: locationOf(namesake.schema, namesake.name) }))
      .filter(({ table, trigger }) => created.get(table)?.includes(trigger))
      .map(({ table, trigger, function: caller }) => [
        table,
        `its trigger ${trigger} calls ${caller}, and one of ours would have that name: rename that trigger, or remove the input that made it`,
      ]),
  );
}
