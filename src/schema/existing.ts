/** The catalog, indexed for looking things up in: there may be thousands of tables. */
import { qualify } from '../postgres/quoting.ts';
import type { Catalog, ExistingFunction, ExistingTrigger } from './catalog.ts';

export interface Existing extends Catalog {
  readonly triggersOf: ReadonlyMap<string, readonly ExistingTrigger[]>;
  readonly functionOf: ReadonlyMap<string, ExistingFunction>;
  /** Null where they can't be known. */
  readonly shapeNames: ReadonlySet<string> | null;
}

export const indexed = (catalog: Catalog): Existing => ({
  ...catalog,
  triggersOf: byTable(catalog.triggers),
  functionOf: new Map(catalog.functions.map((f) => [f.name, f])),
  shapeNames: catalog.shapes && new Set(catalog.shapes),
});

export function byTable(triggers: readonly ExistingTrigger[]): Map<string, ExistingTrigger[]> {
  const found = new Map<string, ExistingTrigger[]>();
  for (const trigger of triggers) {
    const table = qualify(trigger.schema, trigger.table);
    found.set(table, [...(found.get(table) ?? []), trigger]);
  }
  return found;
}
