import { setTimeout as delay } from 'node:timers/promises';
import { PostgresInputError } from '../api/errors.ts';
import type { Installation } from '../api/installation.ts';
import { readCatalog } from '../schema/catalog.ts';
import { install } from '../schema/install.ts';
import { type Step, summaryOf } from '../schema/steps.ts';
import { EXIT, command } from './command.ts';
import { type ConnectedInput, givenInput, notInstalled, onInput } from './input.ts';
import { type Options, UsageError } from './options.ts';
import { type Output, printJson, printRows, printable, tableList } from './output.ts';

const OPTIONS = {
  wait: {
    type: 'string',
    value: 'SECONDS',
    help: 'how long to go on trying while the internal tables are locked; default: 60',
  },
} as const satisfies Options;

/** Between two rounds, in milliseconds. */
const PAUSE = 1000;

export const migrate = command({
  summary: 'bring an input to the version of this package, step by step',
  details: `\
Does what install does to an input that is there already, and tells each step. Nodes migrate by themselves when
they start, unless their option install is false. The application goes on writing; nodes of older versions go
on too. Exit code 3: some steps had to be left out; the output says why.`,
  options: OPTIONS,
  async run(call) {
    const { values, io } = call;
    const patience = secondsOf(values.wait ?? '60') * 1000;
    return onInput(givenInput(call), async (input) => {
      const { session, names, catalog } = input;
      if (catalog.version === null) throw new Error(`${notInstalled(names)}: run install`);
      const steps = new StepLog();
      const installation = await installPatiently(input, { steps, patience, stderr: io.stderr });
      steps.noteLeftOut(installation);
      const { version } = await readCatalog(session, names);
      if (values.json) {
        const { watched } = installation;
        printJson(io, { id: names.id, from: catalog.version, to: version, steps: steps.all, watched });
      } else {
        printRows(io, [
          ['version', catalog.version === version ? `${version}` : `${catalog.version} -> ${version}`],
          ...steps.all.map(rowOf),
          ['watched', tableList(installation.watched)],
        ]);
      }
      return steps.all.every(({ done }) => done) ? EXIT.ok : EXIT.problems;
    });
  },
});

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (text.trim() !== '' && seconds >= 0 && seconds <= 1_000_000) return seconds;
  throw new UsageError(`--wait takes a number of seconds, and not ${JSON.stringify(text)}`);
}

interface StepReport {
  readonly step: string;
  /** The table of the application that the step is about, if there is one. */
  readonly table?: string;
  readonly done: boolean;
  /** Why the step was left out. */
  readonly reason?: string;
}

const rowOf = ({ step, done, reason }: StepReport): readonly [string, string] =>
  done ? ['done', step] : ['left out', `${step}: ${reason}`];

/** How each step ended at last: a step that was locked is tried again. */
class StepLog {
  readonly #steps = new Map<string, StepReport>();

  get all(): readonly StepReport[] {
    return [...this.#steps.values()];
  }

  note(step: Pick<Step, 'table' | 'summary'>, reason: string | null): void {
    const summary = summaryOf(step);
    this.#steps.set(summary, {
      step: summary,
      ...(step.table !== undefined && { table: step.table }),
      ...(reason === null ? { done: true } : { done: false, reason }),
    });
  }

  /** The installation knows best which tables were left out: another node may have done a step that failed here. */
  noteLeftOut({ unwatchable, pending }: Installation): void {
    for (const [summary, { table, done }] of this.#steps) {
      if (table !== undefined && !done) this.#steps.delete(summary);
    }
    for (const { table, reason } of unwatchable) this.note({ table }, reason);
    for (const table of pending) this.note({ table }, 'it stayed locked, run migrate again');
  }
}

/** @throws {PostgresInputError} ERR_INSTALL if the internal tables are still locked when the patience is over */
async function installPatiently(
  { session, settings, names }: ConnectedInput,
  { steps, patience, stderr }: { steps: StepLog; patience: number; stderr: Output },
): Promise<Installation> {
  const deadline = performance.now() + patience;
  const onStep = (step: Step, failure: Error | null) => steps.note(step, failure && failure.message);
  for (;;) {
    try {
      return await install(session, settings, names, { onStep });
    } catch (error) {
      const isLocked = error instanceof PostgresInputError && error.code === 'ERR_INSTALL' && error.retryable;
      const left = deadline - performance.now();
      if (!isLocked || left <= 0) throw error;
      stderr.write(
        `migrate: ${printable(error.message)}; going on for another ${Math.ceil(left / 1000)} s\n`,
      );
      await delay(Math.min(PAUSE, left));
    }
  }
}
