/** What doctor finds, and what it looks at. */
import { PostgresInputError } from '../api/errors.ts';
import type { SharedStatus } from '../api/status.ts';
import type { Settings } from '../config/settings.ts';
import { readStatus } from '../node/status.ts';
import type { Session } from '../postgres/session.ts';
import { type Catalog, readCatalog } from '../schema/catalog.ts';
import type { Names } from '../schema/names.ts';
import { type Plan, plan } from '../schema/plan.ts';

export interface Finding {
  readonly check: string;
  /** `note`: nothing to do now, but good to know. */
  readonly result: 'ok' | 'note' | 'problem';
  readonly found: string;
  readonly advice: string | null;
}

/** What the checks work on. */
export interface Patient {
  readonly session: Session;
  readonly settings: Settings;
  readonly names: Names;
  readonly catalog: Catalog;
  readonly plan: Plan;
  /** Null where nothing is installed, or not for this role to read. */
  readonly status: SharedStatus | null;
}

export const examine = async (session: Session, settings: Settings, names: Names): Promise<Patient> => {
  const catalog = await readCatalog(session, names);
  const whole = [names.lockTable, names.logTable].every(({ name }) => catalog.tables.includes(name));
  return {
    session,
    settings,
    names,
    catalog,
    plan: await plan(session, settings, names),
    status: whole ? await readable(readStatus(session, names)) : null,
  };
};

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

/** What there is; null where something is not installed, or not for the role in use to read. */
export const readable = <Result>(reading: Promise<Result>): Promise<Result | null> =>
  reading.catch((error: unknown) => {
    const { code } = error as { code?: string };
    if (code === '42501' || (error instanceof PostgresInputError && error.code === 'ERR_INSTALL'))
      return null;
    throw error;
  });
