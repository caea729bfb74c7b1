/** Doctor's checks of the flow of changes: whether nodes take the changes that the triggers write, here and in other inputs. */
import { readCatalog } from '../schema/catalog.ts';
import { namesOf } from '../schema/names.ts';
import { type Check, type Finding, note, ok, problem, stateOf } from './doctor-finding.ts';
import { ageOf, changesOf, isUnreadable, readState } from './input-state.ts';
import { inSession } from './input.ts';
import { duration } from './output.ts';

/** In milliseconds. If a change is older than this, its consumer does not keep up or has not acknowledged it. */
const OLD = 60_000;

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
export const otherInputs: Check = async ({ session, settings, names }) => {
  const prefix = 'lock_postgres_input_';
  const found = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r' AND pg_catalog.starts_with(c.relname, $2) AND c.relname <> $3
       AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
     ORDER BY 1`,
    [names.schema, prefix, names.lockTable.name],
  );
  const findings: Finding[] = [];
  for (const { name } of found) {
    const id = name.slice(prefix.length);
    const other = { settings, names: namesOf(id, names.schema) };
    // A session prepares its statements by name, for one input's tables: another input needs a session of its own.
    const state = await inSession(other, async (input) =>
      stateOf(input, await readCatalog(input.session, input.names)),
    );
    if (!state || state.lease || state.backlog === 0) continue;
    if (isUnreadable(state, other.names.lockTable)) continue;
    const waiting = `${changesOf(state, other.names)}${oldest(await ageOf(session, state.oldestChangeAt))}`;
    findings.push(
      problem(
        'other inputs',
        `input ${id} has no active node; backlog: ${waiting}`,
        `start one; or, if none is to come again: uninstall --name ${id}`,
      ),
    );
  }
  return findings;
};
