/**
 * `status --watch`: a look at the input every second, drawn again and again on a terminal, and a line of JSON for each look elsewhere. It goes on
 * while the database is away, since a person who watches an outage wants to see its end.
 */
import { PostgresInputError } from '../api/errors.ts';
import { drawn } from '../capture/change-log-sql.ts';
import { countParked } from '../capture/parked.ts';
import { nothingInstalled } from '../node/status.ts';
import { sleep } from '../postgres/sleep.ts';
import { STRIDE } from '../schema/log-layout.ts';
import type { Call } from './command.ts';
import { type InputState, OLD, ageOf, changesOf, isUnreadable, readState } from './input-state.ts';
import { type ConnectedInput, type GivenInput, onInput } from './input.ts';
import { type Io, coloured, duration, plural, printable } from './output.ts';

/** Milliseconds between two looks. */
const PERIOD = 1000;
/** Looking takes a fifth of the time at most: counting a backlog of millions takes seconds. */
const PAUSES_PER_LOOK = 4;
/** How many looks a sparkline shows. */
const HISTORY = 60;

interface Look {
  /** When this process looked, ISO 8601. */
  readonly at: string;
  readonly id: string;
  readonly lease: InputState['lease'];
  readonly backlog: number;
  /** In milliseconds; null if nothing waits. */
  readonly oldestChangeAge: number | null;
  /** Null if the input has no table for them, as in version 1. */
  readonly parked: number | null;
  /** Rows of the change log that were written in a second, since the look before. Null at the first look, and for a role that may not know. */
  readonly rowsLoggedPerSecond: number | null;
}

/** Returns at the signals that end a command, and when its reader hangs up. A second signal ends the process at once. */
export async function watch(given: GivenInput, { values, io }: Call): Promise<void> {
  const stop = new AbortController();
  const end = () => stop.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  io.stdout.once('error', end);
  const show = io.stdout.isTTY && !values.json ? new Screen(io) : new Lines(io);
  let hasLooked = false;
  try {
    while (!stop.signal.aborted) {
      try {
        await onInput(given, async (input) => {
          const observer = new Observer(input);
          while (!stop.signal.aborted) {
            const began = performance.now();
            const { look, state } = await observer.look();
            show.look(look, state, input);
            hasLooked = true;
            const took = performance.now() - began;
            await sleep(Math.max(PERIOD - took, PAUSES_PER_LOOK * took), stop.signal);
          }
        });
      } catch (error) {
        if (!hasLooked || !(error instanceof PostgresInputError) || !error.retryable) throw error;
        show.outage(error.message);
        await sleep(PERIOD, stop.signal);
      }
    }
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
    io.stdout.off('error', end);
  }
}

class Observer {
  readonly #input: ConnectedInput;
  #last: { rows: number; at: number } | null = null;

  constructor(input: ConnectedInput) {
    this.#input = input;
  }

  async look(): Promise<{ look: Look; state: InputState }> {
    const { settings, session, names, catalog } = this.#input;
    const { tables } = catalog;
    if (![names.lockTable, names.logTable].some(({ name }) => tables.includes(name)))
      throw nothingInstalled();
    const state = await readState(this.#input, tables);
    const look = {
      at: new Date().toISOString(),
      id: settings.id,
      lease: state.lease,
      backlog: state.backlog,
      oldestChangeAge: await ageOf(session, state.oldestChangeAt),
      parked: tables.includes(names.parkedTable.name) ? await countParked(session, names) : null,
      rowsLoggedPerSecond: await this.#rate(),
    };
    return { look, state };
  }

  /** The log's sequence counts its rows. */
  async #rate(): Promise<number | null> {
    const { session, names } = this.#input;
    const [row] = await session.query<{ last: string }>(`SELECT ${drawn(names.logSequence)}::text AS last`);
    const [rows, at] = [Number(BigInt(row!.last) / BigInt(STRIDE)), performance.now()];
    const last = this.#last;
    this.#last = { rows, at };
    if (last === null || rows === 0) return null;
    // Somebody may have set the sequence back.
    return Math.max(0, Math.round(((rows - last.rows) / (at - last.at)) * 1000));
  }
}

/** For programs: a line of JSON for each look. */
class Lines {
  readonly #io: Io;

  constructor(io: Io) {
    this.#io = io;
  }

  look(look: Look): void {
    this.#io.stdout.write(`${JSON.stringify(look)}\n`);
  }

  outage(error: string): void {
    this.#io.stdout.write(`${JSON.stringify({ at: new Date().toISOString(), error })}\n`);
  }
}

/** For people: the same lines of the terminal, written over. */
class Screen {
  readonly #io: Io;
  readonly #backlogs: number[] = [];
  readonly #rates: number[] = [];
  #drawn = 0;

  constructor(io: Io) {
    this.#io = io;
  }

  look(look: Look, state: InputState, { names }: ConnectedInput): void {
    const { lease, backlog, oldestChangeAge, parked, rowsLoggedPerSecond } = look;
    remember(this.#backlogs, backlog);
    if (rowsLoggedPerSecond !== null) remember(this.#rates, rowsLoggedPerSecond);
    const isOld = (oldestChangeAge ?? 0) > OLD;
    this.#draw([
      ['input', printable(look.id)],
      ['active', isUnreadable(state, names.lockTable) ? 'not known' : this.#holder(lease)],
      ['backlog', `${changesOf(state, names).padEnd(FIGURE)}  ${sparkline(this.#backlogs)}`],
      [
        'logged',
        rowsLoggedPerSecond === null
          ? ''
          : `${`${plural(rowsLoggedPerSecond, 'row')}/s`.padEnd(FIGURE)}  ${sparkline(this.#rates)}`,
      ],
      [
        'lag',
        oldestChangeAge === null
          ? 'none'
          : this.#warning(isOld, `${duration(oldestChangeAge)}, the oldest change`),
      ],
      ['parked', parked === null ? 'not known' : this.#warning(parked > 0, plural(parked, 'event'))],
    ]);
  }

  outage(error: string): void {
    this.#draw([['outage', coloured(this.#io, 'red', printable(error))]]);
  }

  #holder(lease: Look['lease']): string {
    if (lease === null) return coloured(this.#io, 'red', 'no node');
    return `node ${lease.holder} since ${lease.acquiredAt}`;
  }

  #warning(isOne: boolean, text: string): string {
    return isOne ? coloured(this.#io, 'yellow', text) : text;
  }

  /** Goes back to the first line, and clears the rest of each line and all that is below. A line that is cut does not wrap. */
  #draw(rows: readonly (readonly [string, string])[]): void {
    const lines = rows.map(([label, text]) => `${label.padEnd(8)} ${text}\u001B[K\n`);
    const back = this.#drawn > 0 ? `\u001B[${this.#drawn}A` : '';
    this.#io.stdout.write(`${back}\u001B[?7l${lines.join('')}\u001B[J\u001B[?7h`);
    this.#drawn = lines.length;
  }
}

/** The width of the figure before a sparkline. */
const FIGURE = 20;

function remember(history: number[], value: number): void {
  history.push(value);
  if (history.length > HISTORY) history.shift();
}

const BARS = '▁▂▃▄▅▆▇█';

/** One character for each value, from nothing to the largest one. */
export function sparkline(values: readonly number[]): string {
  const largest = Math.max(1, ...values);
  return values
    .map((value) => (value === 0 ? ' ' : BARS[Math.ceil((value / largest) * BARS.length) - 1]!))
    .join('');
}
