/**
 * Prints events as they come. The command is a node like any other: an event that it prints is acknowledged, and no other
 * node gets that event. By default the command is therefore an input of its own, with its own triggers and its own log,
 * which it removes when it ends; so it takes nothing away from the nodes that do the work.
 */
import { randomBytes } from 'node:crypto';
import type { Installation } from '../api/installation.ts';
import { connectFirst } from '../node/connect.ts';
import { FirstConnections } from '../node/first-connections.ts';
import { type PostgresInput, inputOf } from '../postgres-input.ts';
import type { Session } from '../postgres/session.ts';
import { readCatalog } from '../schema/catalog.ts';
import { type Call, EXIT, command } from './command.ts';
import { eventLine } from './event-line.ts';
import { type GivenInput, givenInput, inSession, onInput } from './input.ts';
import { type Options, UsageError } from './options.ts';
import { type Output, plural, printable, shellWord } from './output.ts';
import { warningsOf } from './remarks.ts';

const OPTIONS = {
  table: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'the same as --include',
  },
  join: {
    type: 'boolean',
    help: 'be a node of the input --name, which is there already; installs nothing, and\ntakes every event as it is: no --table, --include, --exclude, --operation, --rows',
  },
} as const satisfies Options;

/** SIGHUP comes when the terminal is closed, or the connection to it is lost. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export const tail = command({
  summary: 'print events as they come, one a line',
  details: `\
On a terminal a line is for people: when, what, where, which row, its values (with --rows), and who says that
they wrote them. Elsewhere, or with --json, each line is a JSON object with the whole event.

Without --name it takes nothing away from anybody: it installs an input of its own, tail_ and some digits,
and removes that when it ends. If it is killed, doctor finds what is left.

With --name it makes an input of that name and leaves it in place, so that what happens in the meantime is
kept and comes when tail runs again, with --join. If the input is there already, tail refuses without --join:
it is one node among the others then, waits until no other is active, and AN EVENT THAT IT PRINTS IS DONE
AND NO OTHER NODE GETS IT.

It ends at Ctrl-C, SIGTERM, or when its reader or its terminal hangs up. An event is acknowledged once it has been written.`,
  options: OPTIONS,
  ownInput: true,
  async run(call) {
    const { values, io } = call;
    const isTemporary = values.name === undefined;
    if (values.join) refuseFilters(values);
    const include = [...(values.include ?? []), ...(values.table ?? [])];
    const name = values.name ?? `tail_${randomBytes(4).toString('hex')}`;
    const { settings, names } = values.join
      ? await existingInput(givenInput(call))
      : await newInput(givenInput({ ...call, values: { ...values, include } }, name));
    const first = new FirstConnections(await connectFirst(settings, names));
    const input = inputOf({ ...settings, install: !values.join }, first);
    narrate(input, io.stderr);
    const stop = new AbortController();
    const end = () => {
      stop.abort();
      void input.close();
    };
    // The handlers run once: a second signal ends the process at once, as it would without them.
    for (const signal of SIGNALS) process.once(signal, end);
    const isForPeople = io.stdout.isTTY && !values.json;
    try {
      for await (const event of input.handle({ reconnect: true })) {
        const line = isForPeople ? eventLine(event, io) : JSON.stringify(event);
        if (!(await written(io.stdout, `${line}\n`, stop.signal))) break;
      }
    } finally {
      await input.close();
      if (isTemporary) await remove(input, { settings, names }, io.stderr);
      for (const signal of SIGNALS) process.off(signal, end);
    }
    // Output that a stalled reader has not taken would keep the process alive.
    if (stop.signal.aborted && io.stdout.writableLength) process.exit(EXIT.ok);
    return EXIT.ok;
  },
});

/** A node that joins takes every event of its input, so a filter would throw the others away. */
function refuseFilters(values: Call<typeof OPTIONS>['values']): void {
  if (values.name === undefined) throw new UsageError('--join needs --name');
  const filter = (['table', 'include', 'exclude', 'operation'] as const).find((name) => values[name]);
  if (filter) throw new UsageError(`--join takes every event: --${filter} would throw the others away`);
  if (values.rows !== undefined)
    throw new UsageError('--join takes events as the input has them: --rows would ask for others');
}

/** The options of the other nodes are those of a node that joins them. */
const existingInput = (given: GivenInput): Promise<Pick<GivenInput, 'settings' | 'names'>> =>
  onInput(given, async ({ settings, names }) => ({ settings, names }));

async function newInput(given: GivenInput): Promise<GivenInput> {
  const { tables } = await inSession(given.settings, (session) => readCatalog(session, given.names));
  if (tables.length === 0) return given;
  throw new Error(
    `input ${given.names.id} is there already, and tail would take its events away from its other nodes: ` +
      'leave --name out, or add --join if that is what you want',
  );
}

/** What can't be removed is told of, unless nothing was installed: a role that may not install may not remove either. */
async function remove(
  input: PostgresInput,
  { settings, names }: Pick<GivenInput, 'settings' | 'names'>,
  stderr: Output,
): Promise<void> {
  try {
    await input.uninstall();
  } catch (error) {
    const isLeft = async (session: Session) => {
      const { tables, functions, triggers } = await readCatalog(session, names);
      return tables.length + functions.length + triggers.length > 0;
    };
    if (!(await inSession(settings, isLeft).catch(() => true))) return;
    const which = `--name ${names.id} --internal-schema ${shellWord(names.schema)}`;
    stderr.write(`tail: left behind: dapper-postgres-input uninstall --yes ${which}\n`);
    throw error;
  }
}

/** Tells on the standard error how the node is doing. */
function narrate(input: PostgresInput, stderr: Output): void {
  const say = (text: string) => stderr.write(`tail: ${printable(text)}\n`);
  input.on('installed', ({ watched, unwatchable, pending, ...remarks }: Installation) => {
    say(`input ${input.id} watches ${plural(watched.length, 'table')}`);
    for (const { table, reason } of unwatchable) say(`not ${table}: ${reason}`);
    for (const table of pending) say(`not yet ${table}`);
    for (const warning of warningsOf(remarks)) say(warning);
  });
  input.on('standby', () => say('waiting for the lease'));
  input.on('active', () => say('active'));
  input.on('reconnecting', ({ error }) => say(error.message));
  input.on('discoveryFailed', (error) => say(`looking for new tables failed: ${(error as Error).message}`));
}

/** Whether the text was written before the reader hung up or `signal` aborted. */
function written(stdout: Output, text: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const giveUp = () => resolve(false);
    signal.addEventListener('abort', giveUp, { once: true });
    stdout.write(text, (error) => {
      signal.removeEventListener('abort', giveUp);
      resolve(!error);
    });
  });
}
