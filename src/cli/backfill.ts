import type { BackfillProgress } from '../api/backfill.ts';
import {
  RequestedBackfill,
  goneBackfill,
  latestBackfill,
  requestBackfill,
} from '../capture/backfill-request.ts';
import type { Session } from '../postgres/session.ts';
import { NEVER, sleep } from '../postgres/sleep.ts';
import type { Names } from '../schema/names.ts';
import { EXIT, type ExitCode, command } from './command.ts';
import { givenInput, onInstalledInput } from './input.ts';
import { UsageError, type Options } from './options.ts';
import { type Io, duration, plural, printJson, printTable, printable } from './output.ts';

const OPTIONS = {
  table: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'which tables; default: all that are watched',
  },
  where: { type: 'string', value: 'SQL', help: 'which rows, over the columns of each table; default: all' },
  chunk: {
    type: 'string',
    value: 'N',
    help: 'how many rows are read at once at most; default: what takes 100 ms',
  },
  wait: { type: 'boolean', help: 'stay until the rows are acknowledged, and show how far it is' },
  id: { type: 'string', value: 'ID', help: 'an earlier backfill; default: the newest one that is not over' },
  pause: { type: 'boolean', help: 'read no more of an earlier backfill, until --resume' },
  resume: { type: 'boolean', help: 'go on with it' },
  cancel: { type: 'boolean', help: 'read no more of it, for good' },
} as const satisfies Options;

const TURNS = ['pause', 'resume', 'cancel'] as const;

/** Between two looks at the progress, in milliseconds. */
const LOOK = 500;

export const backfill = command({
  summary: 'have the rows that tables hold already come as read events',
  details: `\
The active node reads them, now or as soon as there is one: live changes come first. With --pause, --resume or
--cancel, something is done to an earlier backfill. Exit code 3, with --wait: a table could not be read.`,
  options: OPTIONS,
  async run(call) {
    const { values, io } = call;
    const turns = TURNS.filter((turn) => values[turn]);
    const chunk = values.chunk === undefined ? null : Number(values.chunk);
    if (turns.length > 1) throw new UsageError('give one of --pause, --resume and --cancel');
    if (chunk !== null && !(Number.isInteger(chunk) && chunk >= 1 && chunk <= 2000))
      throw new UsageError('--chunk must be a whole number, from 1 to 2000');
    const [turn] = turns;
    const isEarlier = turn !== undefined || values.id !== undefined;
    if (isEarlier && (values.table ?? values.where ?? values.chunk) !== undefined)
      throw new UsageError('--table, --where and --chunk are for a new backfill');
    if (values.id !== undefined && !/^\d{1,18}$|^[1-8]\d{18}$/.test(values.id))
      throw new UsageError('--id must be the id of a backfill');
    return onInstalledInput(givenInput(call), async ({ session, settings, names }) => {
      const { table: tables = null, where = null } = values;
      const id = isEarlier
        ? (values.id ?? (await latestOf(session, names)))
        : await requestBackfill(session, settings, names, { tables, where, chunk });
      const found = new RequestedBackfill(id, names, (task) => task(session));
      if (isEarlier && (await found.progress()).length === 0)
        throw new UsageError(`input ${names.id} has no backfill ${id}`);
      if (turn) await found[turn]();
      return values.wait ? watch(found, io, values.json ?? false) : tell(found, io, values.json ?? false);
    });
  },
});

async function latestOf(session: Session, names: Names): Promise<string> {
  const id = await latestBackfill(session, names);
  if (id === null) throw new UsageError(`no backfill of input ${names.id} is under way`);
  return id;
}

async function tell(found: RequestedBackfill, io: Io, json: boolean): Promise<ExitCode> {
  const tables = await found.progress();
  if (json) printJson(io, { id: found.id, tables });
  else {
    io.stdout.write(`backfill ${found.id}\n`);
    printTable(
      io,
      ['TABLE', 'STATE', 'ROWS', 'OF ABOUT'],
      tables.map(({ table, state, done, estimated }) => [table, state, String(done), String(estimated)]),
    );
  }
  return EXIT.ok;
}

/** On a terminal one line that changes, elsewhere a line for each look at which something has changed. */
async function watch(found: RequestedBackfill, io: Io, json: boolean): Promise<ExitCode> {
  const isTerminal = Reflect.get(io.stderr, 'isTTY') === true;
  const began = performance.now();
  let first: number | null = null;
  let told = '';
  for (;;) {
    const tables = await found.progress();
    if (tables.length === 0) throw goneBackfill(found.id);
    const done = sum(tables, 'done');
    first ??= done;
    const line = describe(tables, done, (done - first) / (performance.now() - began));
    if (isTerminal) io.stderr.write(`\r${line}\u001B[K`);
    else if (`${done} ${line.split(' ', 1)[0]}` !== told) io.stderr.write(`${line}\n`);
    told = `${done} ${line.split(' ', 1)[0]}`;
    if (tables.every(({ state }) => state === 'done' || state === 'cancelled')) {
      if (isTerminal) io.stderr.write('\n');
      await tell(found, io, json);
      const failed = tables.filter(({ error }) => error !== null);
      for (const { table, error } of failed)
        io.stderr.write(`dapper-postgres-input: ${printable(`${table}: ${error}`)}\n`);
      return failed.length === 0 ? EXIT.ok : EXIT.problems;
    }
    await sleep(LOOK, NEVER);
  }
}

const BAR = 24;

/** `perMillisecond`: rows. */
function describe(tables: readonly BackfillProgress[], done: number, perMillisecond: number): string {
  const estimated = Math.max(sum(tables, 'estimated'), done);
  const share = estimated === 0 ? 0 : done / estimated;
  const filled = Math.round(share * BAR);
  const state = tables.some(({ state }) => state === 'running')
    ? 'running'
    : (tables.find(({ state }) => state !== 'done')?.state ?? 'done');
  const left = perMillisecond > 0 ? `, ${duration((estimated - done) / perMillisecond)} left` : '';
  return (
    `${state.padEnd(9)} [${'#'.repeat(filled)}${'.'.repeat(BAR - filled)}] ${plural(done, 'row')} of about ` +
    `${estimated.toLocaleString('en')}, ${Math.round(perMillisecond * 1000).toLocaleString('en')} rows/s${left}`
  );
}

const sum = (tables: readonly BackfillProgress[], figure: 'done' | 'estimated'): number =>
  tables.reduce((all, table) => all + table[figure], 0);
