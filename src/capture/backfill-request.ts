/** What any session may do with backfills, whether or not a node is active: ask for one, look at it, pause, resume and cancel it. */
import type { Backfill, BackfillProgress } from '../api/backfill.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Settings } from '../config/settings.ts';
import type { Session } from '../postgres/session.ts';
import { NEVER, sleep } from '../postgres/sleep.ts';
import { isConnectionError, lacksValue } from '../postgres/sqlstates.ts';
import { readCatalog } from '../schema/catalog.ts';
import type { Names } from '../schema/names.ts';
import { wantsReads } from '../schema/table-options.ts';
import { type CandidateTable, type Table, candidateTables, chooseTables } from '../schema/tables.ts';
import { backfillSql } from './backfill-sql.ts';
import { BackfillTable, beginChunk, searchBeside } from './backfill-table.ts';
import { refusedClearly } from './failures.ts';

export interface BackfillRequest {
  readonly tables: readonly string[] | null;
  readonly where: string | null;
  readonly chunk: number | null;
}

export type InSession = <Result>(task: (session: Session) => Promise<Result>) => Promise<Result>;

const NONE_YET =
  'tables: no table is watched: the first node that runs handle() or process() installs the triggers and then emits installed; `initial` brings the rows of every table from the beginning';
const NO_READS = "operations leaves out 'read', so that no row would come: add it";

/** Between two looks whether a backfill is done, in milliseconds. */
const LOOK = 500;

const clearly = <Result>(task: () => Promise<Result>): Promise<Result> =>
  refusedClearly(task, "backfills can't be kept");

/**
 * Asks for a backfill. Everything is checked before: the tables, the condition against each of them, and the rights.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID with every violation; ERR_INSTALL
 */
export async function requestBackfill(
  session: Session,
  settings: Settings,
  names: Names,
  { tables, where, chunk }: BackfillRequest,
): Promise<string> {
  const watched = await watchedTables(session, settings, names);
  if (watched.size === 0) throw invalid([NONE_YET]);
  const chosen =
    tables ?? [...watched].filter(([, { options }]) => wantsReads(settings, options)).map(([table]) => table);
  const problems = chosen.flatMap((name) => {
    const table = watched.get(name);
    if (!table) return `tables: ${name} is not watched; watched are ${[...watched.keys()].join(', ')}`;
    return wantsReads(settings, table.options) ? [] : `tables: ${name}: ${NO_READS}`;
  });
  if (chosen.length === 0) problems.push(tables === null ? NO_READS : 'tables: no table is named');
  if (problems.length > 0) throw invalid(problems);
  const locations = [...new Set(chosen)];
  const relations = locations.map((table) => watched.get(table)!.identity.relation);
  for (const [i, relation] of relations.entries()) {
    const problem = await conditionProblem(session, settings, relation, where);
    if (problem !== null) problems.push(`where: ${locations[i]}: ${problem}`);
  }
  if (problems.length > 0) throw invalid(problems);
  const values = [relations, locations, where, chunk];
  const [asked] = await clearly(() => session.query<{ id: string }>(backfillSql(names).request, values));
  return asked!.id;
}

/** @throws {PostgresInputError} ERR_CONFIG_INVALID */
export function refuseWithoutReads({ operations }: Pick<Settings, 'operations'>): void {
  if (!operations.has('read')) throw invalid([NO_READS]);
}

/** The tables that are watched and whose triggers are there, by their locations. */
async function watchedTables(
  session: Session,
  settings: Settings,
  names: Names,
): Promise<ReadonlyMap<string, Table>> {
  const candidates = await session.query<CandidateTable>(candidateTables, [settings.schemas, false]);
  const { triggers } = await readCatalog(session, names);
  const triggered = new Set(triggers.map(({ schema, table }) => JSON.stringify([schema, table])));
  const { tables } = chooseTables(candidates, settings);
  return new Map(
    tables
      .filter(
        ({ isPartition, schema, name }) => !isPartition && triggered.has(JSON.stringify([schema, name])),
      )
      .map((table) => [table.location, table]),
  );
}

/** Why the condition can't be tested; null if it can. It is tested on no row, where a chunk would be read. */
async function conditionProblem(
  session: Session,
  settings: Settings,
  relation: string,
  where: string | null,
): Promise<string | null> {
  const table = await BackfillTable.find(session, relation, settings);
  if (!table) return 'the table is gone';
  try {
    const begin = [...beginChunk, ...(where === null ? [] : [searchBeside(table.schema)])];
    await session.batch([...begin.map((text) => ({ text })), table.chunk([], 0, where)], () => {});
    return null;
  } catch (error) {
    if (isConnectionError(error)) throw error;
    return lacksValue(error) ? 'it has a parameter: write the value in its place' : (error as Error).message;
  }
}

const invalid = (problems: readonly string[]): PostgresInputError =>
  new PostgresInputError('ERR_CONFIG_INVALID', ['Please correct the backfill:', ...problems].join('\n- '));

/** @throws {PostgresInputError} ERR_INSTALL */
export async function latestBackfill(session: Session, names: Names): Promise<string | null> {
  const [row] = await clearly(() => session.query<{ id: string }>(backfillSql(names).latest));
  return row?.id ?? null;
}

/** The database no longer knows of it: after a failover that lost the request, for instance, or where the input was installed anew. */
export const goneBackfill = (id: string): PostgresInputError =>
  new PostgresInputError('ERR_INSTALL', `the database no longer has backfill ${id}: ask for another one`);

/** The states in which a table's backfill can be turned into another one. */
const TURNS = {
  paused: ['waiting', 'running'],
  waiting: ['paused'],
  cancelled: ['waiting', 'running', 'paused'],
} as const;

export class RequestedBackfill implements Backfill {
  readonly id: string;
  readonly #names: Names;
  readonly #inSession: InSession;
  #done: Promise<void> | null = null;

  constructor(id: string, names: Names, inSession: InSession) {
    this.id = id;
    this.#names = names;
    this.#inSession = inSession;
  }

  progress(): Promise<BackfillProgress[]> {
    const { progress } = backfillSql(this.#names);
    return this.#inSession((session) => clearly(() => session.query<BackfillProgress>(progress, [this.id])));
  }

  pause(): Promise<void> {
    return this.#turn('paused');
  }

  resume(): Promise<void> {
    return this.#turn('waiting');
  }

  cancel(): Promise<void> {
    return this.#turn('cancelled');
  }

  /** Nothing is asked of the database before somebody wants to know. */
  get done(): Promise<void> {
    return (this.#done ??= this.#untilDone());
  }

  async #turn(state: keyof typeof TURNS): Promise<void> {
    const { turn } = backfillSql(this.#names);
    await this.#inSession((session) => clearly(() => session.query(turn, [this.id, state, TURNS[state]])));
  }

  async #untilDone(): Promise<void> {
    for (;;) {
      const tables = await this.progress().catch((error: unknown) => {
        if (!isConnectionError(error)) throw error;
        return null;
      });
      if (tables?.length === 0) throw goneBackfill(this.id);
      if (tables?.every(({ state }) => state === 'done' || state === 'cancelled')) {
        const failed = tables.filter(({ error }) => error !== null);
        if (failed.length === 0) return;
        throw new PostgresInputError(
          'ERR_INSTALL',
          `not every table could be read: ${failed.map(({ table, error }) => `${table}: ${error}`).join('; ')}`,
        );
      }
      await sleep(LOOK, NEVER);
    }
  }
}
