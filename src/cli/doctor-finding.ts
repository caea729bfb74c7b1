/** A check of doctor's: its findings, and the facts that all checks share. */
import { PostgresInputError } from '../api/errors.ts';
import type { SharedStatus } from '../api/status.ts';
import { readStatus } from '../node/status.ts';
import { type Catalog, readCatalog } from '../schema/catalog.ts';
import { type Plan, plan } from '../schema/plan.ts';
import type { ConnectedInput } from './input.ts';

export interface Finding {
  readonly check: string;
  /** `note`: the user need not do anything now. */
  readonly result: 'ok' | 'note' | 'problem';
  readonly found: string;
  readonly advice: string | null;
}

export interface Patient extends ConnectedInput {
  readonly catalog: Catalog;
  readonly plan: Plan;
  /** Null where nothing is installed, or where the role in use may not read it. */
  readonly status: SharedStatus | null;
}

export async function examine(input: ConnectedInput): Promise<Patient> {
  const { session, settings, names } = input;
  const catalog = await readCatalog(session, names);
  const whole = [names.lockTable, names.logTable].every(({ name }) => catalog.tables.includes(name));
  return {
    ...input,
    catalog,
    plan: await plan(session, settings, names),
    status: whole ? await readable(readStatus(session, names)) : null,
  };
}

export type Check = (patient: Patient) => Promise<Finding[]> | Finding[];

export const ok = (check: string, found: string): Finding => ({ check, result: 'ok', found, advice: null });
export const note = (check: string, found: string, advice: string): Finding => ({
  check,
  result: 'note',
  found,
  advice,
});
export const problem = (check: string, found: string, advice: string): Finding => ({
  check,
  result: 'problem',
  found,
  advice,
});

/** Null where the objects are not installed, or where the role in use may not read them. */
export const readable = <Result>(reading: Promise<Result>): Promise<Result | null> =>
  reading.catch((error: unknown) => {
    const { code } = error as { code?: string };
    if (code === '42501' || (error instanceof PostgresInputError && error.code === 'ERR_INSTALL'))
      return null;
    throw error;
  });
