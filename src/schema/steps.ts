/** The steps of a plan, and the statements that drop. */
import { qualify, quoteIdentifier } from '../postgres/quoting.ts';
import type { ExistingTrigger } from './catalog.ts';
import type { Names } from './names.ts';

/** Statements that belong into one transaction. */
export interface Step {
  /** What the step is for, in words, if that is not the triggers of a table. */
  readonly summary?: string;
  /** The table of the application that it touches. */
  readonly table?: string;
  /** Whether nothing works without it. */
  readonly essential?: true;
  readonly sql: readonly string[];
}

/** So many objects are dropped in one transaction: every one of them takes a lock, and the server has a limited number of locks for all. */
const DROPS_AT_ONCE = 100;

/** Steps of a bounded size that run these statements. */
export function dropSteps(sql: readonly string[], kind: Pick<Step, 'essential' | 'summary'> = {}): Step[] {
  const steps: Step[] = [];
  for (let i = 0; i < sql.length; i += DROPS_AT_ONCE)
    steps.push({ ...kind, sql: sql.slice(i, i + DROPS_AT_ONCE) });
  return steps;
}

/** What a step is for, in words. */
export const summaryOf = ({ table, summary }: Pick<Step, 'table' | 'summary'>): string =>
  summary ?? (table === undefined ? 'internal objects' : `the triggers of ${table}`);

export const isOriginal = (t: ExistingTrigger, names: Names): boolean =>
  t.functionSchema === 'public' && t.function === names.originalFunction;

export const dropTrigger = (t: ExistingTrigger): string =>
  `DROP TRIGGER ${quoteIdentifier(t.trigger)} ON ${qualify(t.schema, t.table)}`;

export const dropFunction = (names: Names, f: { name: string; arguments: string }): string =>
  `DROP FUNCTION ${qualify(names.schema, f.name)}(${f.arguments})`;
