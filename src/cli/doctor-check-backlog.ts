/** Doctor's checks of the flow of changes: whether nodes take the changes that the triggers write, here and in other inputs. */
import { readCatalog } from '../schema/catalog.ts';
import { installedInputs } from '../schema/inputs.ts';
import { type Check, type Finding, note, ok, problem } from './doctor-finding.ts';
import { OLD, ageOf, changesOf, isUnreadable, readState, readStateIfAllowed } from './input-state.ts';
import { duration, shellWord } from './output.ts';

export const backlog: Check = async ({ session, names, catalog, state }) => {
  if (!state || isUnreadable(state, names.lockTable)) return [];
  const { lease, oldestChangeAt } = state;
  const age = await ageOf(session, oldestChangeAt);
  const active = lease ? `a node has been active since ${lease.acquiredAt}` : 'no node is active';
  const waiting = `${active}; ${changesOf(state, names)} in the log`;
  if (!lease && state.backlog === 0) return [note('backlog', waiting, 'changes gather until a node starts')];
  if (lease && (age ?? 0) < OLD) return [ok('backlog', waiting)];
  const later = await readState({ session, names }, catalog.tables);
  return [
    problem(
      'backlog',
      `${waiting}${oldest(age)}; ${changesOf(later, names)} a moment later`,
      lease
        ? 'the consumer does not keep up, or does not acknowledge what it has: look at its log; with ack: manual it ' +
            'can work on many at once'
        : 'start a node; or, if none is to come again, uninstall',
    ),
  ];
};

const oldest = (age: number | null): string => (age === null ? '' : `, the oldest ${duration(age)} old`);

/** Finds inputs without a node: their triggers go on writing. */
export const otherInputs: Check = async ({ session, names }) => {
  const findings: Finding[] = [];
  for (const { name, names: other } of await installedInputs(session)) {
    if (other.lockTable.sql === names.lockTable.sql) continue;
    const { tables } = await readCatalog(session, other);
    const state = await readStateIfAllowed({ session, names: other }, tables);
    if (!state || state.lease || state.backlog === 0 || isUnreadable(state, other.lockTable)) continue;
    const waiting = `${changesOf(state, other)}${oldest(await ageOf(session, state.oldestChangeAt))}`;
    const elsewhere = other.schema === names.schema ? '' : ` --internal-schema ${shellWord(other.schema)}`;
    findings.push(
      problem(
        'other inputs',
        `input ${other.id} has no active node; backlog: ${waiting}`,
        `start one; or, if none is to come again: uninstall --name ${shellWord(name)}${elsewhere}`,
      ),
    );
  }
  return findings;
};
