/** Inputs whose tables this version did not make, or of which somebody has removed a part. */
import { describe, expect, it } from 'vitest';
import { setupCommands } from './commands.ts';

const LOG = 'postgres_input.log_postgres_input_x';
const LOCK = 'postgres_input.lock_postgres_input_x';

interface Case {
  readonly is: string;
  readonly made: string;
  /** How the backlog is worded: there are a row with one change and a row with a hundred. */
  readonly backlog: string;
  /** The problems that each command tells, in their order; without those of a backlog, which doctor has in any case. */
  readonly status: readonly RegExp[];
  readonly doctor: readonly RegExp[];
  /** The options without which uninstall refuses. */
  readonly uninstall: readonly string[];
}

const CASES: readonly Case[] = [
  {
    is: 'a log without the column size',
    made: `ALTER TABLE ${LOG} DROP COLUMN size`,
    backlog: 'at least 2 changes',
    status: [/log_postgres_input_x can't be read: column "size" does not exist$/, /older than version 0.1.0/],
    doctor: [
      /installed version: the change log of input x is older/,
      /internal tables: log_.* \(column "size" does not exist\); it has at least 2 changes$/,
    ],
    uninstall: ['--yes'],
  },
  {
    is: 'a log whose column size has another type',
    made: `ALTER TABLE ${LOG} ALTER COLUMN size TYPE text`,
    backlog: 'at least 2 changes',
    status: [/log_postgres_input_x can't be read: COALESCE types text and integer/],
    doctor: [/internal tables: log_postgres_input_x .*; it has at least 2 changes$/],
    uninstall: ['--yes'],
  },
  {
    is: 'a log with a column that this version does not know',
    made: `ALTER TABLE ${LOG} ADD COLUMN future jsonb`,
    backlog: '101 changes',
    status: [],
    doctor: [],
    uninstall: ['--yes'],
  },
  {
    is: 'no log',
    made: `DROP TABLE ${LOG}`,
    backlog: '0 changes',
    status: [/log_postgres_input_x does not exist$/],
    doctor: [/installation: not as it should be: internal objects$/],
    uninstall: [],
  },
  {
    is: 'a lock table without the column holder',
    made: `ALTER TABLE ${LOCK} DROP COLUMN holder`,
    backlog: '101 changes',
    status: [/lock_postgres_input_x can't be read: column l.holder does not exist$/],
    doctor: [/internal tables: lock_postgres_input_x can't be read \(column l.holder does not exist\)$/],
    uninstall: ['--yes', '--force'],
  },
  {
    is: 'no lock table',
    made: `DROP TABLE ${LOCK}`,
    backlog: '101 changes',
    status: [/lock_postgres_input_x does not exist$/],
    doctor: [/installation: not as it should be: internal objects/],
    uninstall: ['--yes'],
  },
  {
    is: 'objects of a newer version',
    made: `ALTER TABLE ${LOCK} ALTER COLUMN version SET DEFAULT 99`,
    backlog: '101 changes',
    status: [/installed by a newer version/],
    doctor: [/installed version: input x was installed by a newer version/],
    uninstall: ['--yes'],
  },
];

const problemsOf = (out: string): string[] =>
  out.split('\n').filter((line) => line.startsWith('problem') && !line.startsWith('problem  backlog:'));

describe('an input with', () => {
  it.each(CASES)('$is can be looked at and removed', async (input) => {
    const { database, run, internalObjects } = await setupCommands();
    await run(['install', '--name', 'x']);
    await database.query('INSERT INTO orders VALUES (0); INSERT INTO orders SELECT generate_series(1, 100)');
    await database.query(input.made);

    const status = await run(['status', '--name', 'x']);
    expect(status).toMatchObject({ code: input.status.length > 0 ? 3 : 0, err: '' });
    expect(status.out).toMatch(new RegExp(`^backlog +${input.backlog}$`, 'm'));
    expect(problemsOf(status.out)).toEqual(input.status.map((problem) => expect.stringMatching(problem)));
    const { problems = [] } = JSON.parse((await run(['status', '--name', 'x', '--json'])).out);
    expect(problems).toEqual(input.status.map((problem) => expect.stringMatching(problem)));

    const doctor = await run(['doctor', '--name', 'x']);
    expect(doctor).toMatchObject({ code: 3, err: '' });
    expect(problemsOf(doctor.out)).toEqual(input.doctor.map((problem) => expect.stringMatching(problem)));
    // The doctor of another input looks at this one as well.
    expect(await run(['doctor', '--name', 'other'])).toMatchObject({ code: 3, err: '' });

    for (const option of input.uninstall) {
      const others = input.uninstall.filter((other) => other !== option);
      const { code, err } = await run(['uninstall', '--name', 'x', ...others]);
      expect(code).toBe(1);
      expect(err).toContain(`use ${option}`);
    }
    expect(await run(['uninstall', '--name', 'x', '--dry-run'])).toMatchObject({ code: 0, err: '' });
    expect(await run(['uninstall', '--name', 'x', ...input.uninstall])).toMatchObject({ code: 0, err: '' });
    expect(await internalObjects()).toEqual([]);
  });
});
