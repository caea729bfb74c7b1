/** What it takes to remove an input from a database, whichever version installed it. */
import { qualify } from '../postgres/quoting.ts';
import type { Session } from '../postgres/session.ts';
import { readCatalog } from './catalog.ts';
import { byTable } from './existing.ts';
import { dropSchema } from './internal-tables.ts';
import type { Names } from './names.ts';
import { type Step, dropFunction, dropSteps, isOriginal } from './steps.ts';
import { dropStep } from './table-step.ts';

export interface Removal {
  /** These come first. */
  readonly triggerSteps: readonly Step[];
  /** What the triggers needed: functions, then tables. */
  readonly objectSteps: readonly Step[];
  readonly hasLog: boolean;
}

/** Reads only. */
export async function planRemoval(session: Session, names: Names): Promise<Removal> {
  const essential = true as const;
  const existing = await readCatalog(session, names);
  const triggers = byTable(existing.triggers.filter((t) => !isOriginal(t, names)));
  return {
    triggerSteps: [...triggers.values()].map(dropStep),
    objectSteps: [
      ...dropSteps(
        existing.functions.map((f) => dropFunction(names, f)),
        { essential },
      ),
      {
        essential,
        sql: [
          ...existing.tables.map((name) => `DROP TABLE ${qualify(names.schema, name)}`),
          ...(existing.schemaExists
            ? [`DROP SEQUENCE IF EXISTS ${names.logSequence.sql}`, dropSchema(names)]
            : []),
        ],
      },
    ].filter(({ sql }) => sql.length > 0),
    hasLog: existing.tables.includes(names.logTable.name),
  };
}
