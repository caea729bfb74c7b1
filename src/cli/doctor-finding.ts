/** A check of doctor's: its findings, and the facts that all checks share. */
import { type InputState, type PlanOrRefusal, planOrRefusal, readStateIfAllowed } from './input-state.ts';
import type { ConnectedInput } from './input.ts';

export interface Finding {
  readonly check: string;
  /** `note`: the user need not do anything now. */
  readonly result: 'ok' | 'note' | 'problem';
  readonly found: string;
  readonly advice: string | null;
}

export interface Patient extends ConnectedInput {
  readonly planning: PlanOrRefusal;
  /** Null where nothing is installed, or where the role in use may not read it. */
  readonly state: InputState | null;
}

export async function examine(input: ConnectedInput): Promise<Patient> {
  const { tables } = input.catalog;
  return {
    ...input,
    planning: await planOrRefusal(input),
    state: tables.length === 0 ? null : await readStateIfAllowed(input, tables),
  };
}

export type Check = (patient: Patient) => Promise<Finding[]> | Finding[];

/** A check of the database and its server, whatever inputs there are. */
export type DatabaseCheck = (database: Pick<Patient, 'session'>) => Promise<Finding[]>;

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

/** Parts a message of this package in two: it ends with the advice, after a colon. */
export function problemFrom(check: string, message: string): Finding {
  const colon = message.lastIndexOf(': ');
  if (colon === -1) return problem(check, message, '');
  return problem(check, message.slice(0, colon), message.slice(colon + 2));
}
