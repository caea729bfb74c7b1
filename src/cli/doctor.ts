import { PostgresInputError } from '../api/errors.ts';
import type { OptionDifference } from '../api/installation.ts';
import { tryConnecting } from '../node/connect.ts';
import { EXIT, command } from './command.ts';
import { backlog, otherInputs } from './doctor-check-backlog.ts';
import {
  drift,
  installedVersion,
  internalTableParts,
  internalTables,
  leftovers,
  options,
  rights,
  sequence,
  tables,
  triggers,
} from './doctor-check-installation.ts';
import { publications, server, sleepLock, version } from './doctor-check-server.ts';
import { type Check, type Finding, examine, note, ok, problemFrom } from './doctor-finding.ts';
import { type GivenInput, givenInput, onInput } from './input.ts';
import { type Io, coloured, printJson, printable } from './output.ts';

const CHECKS: readonly Check[] = [
  rights,
  installedVersion,
  options,
  drift,
  internalTableParts,
  internalTables,
  sequence,
  tables,
  triggers,
  leftovers,
  version,
  backlog,
  otherInputs,
  server,
  sleepLock,
  publications,
];

export const doctor = command({
  summary: 'look for what is wrong, and tell what to do about it',
  details: `\
Looks at the connection (poolers and standbys), the server, rights, the installed version and its options, what
is installed and what should be, disabled triggers, leftovers, the backlog, other inputs of the database that
nobody serves, the notification queue. Changes nothing. Run it as the role of the nodes. If you give it the
nodes' options, it tells whether the input is installed with them.
Exit code 3: there are problems; notes do not count.`,
  options: {},
  async run(call) {
    const { values, io } = call;
    const input = givenInput(call);
    const { findings, differences } = await examination(input);
    const isSound = findings.every(({ result }) => result !== 'problem');
    if (values.json) {
      const differing = differences.length > 0 && { differences };
      printJson(io, { id: input.names.id, ok: isSound, findings, ...differing });
    } else for (const finding of findings) print(io, finding);
    return isSound ? EXIT.ok : EXIT.problems;
  },
});

interface Examination {
  readonly findings: readonly Finding[];
  readonly differences: readonly OptionDifference[];
}

async function examination(input: GivenInput): Promise<Examination> {
  let isProven: boolean;
  try {
    isProven = await tryConnecting(input.settings, input.names);
  } catch (error) {
    if (!(error instanceof PostgresInputError)) throw error;
    return { findings: [problemFrom('connection', error.message)], differences: [] };
  }
  return onInput(input, async (connected) => {
    const findings = [
      isProven
        ? ok('connection', 'notifications arrive')
        : note('connection', 'no notification can be sent', 'see to the notification queue first'),
    ];
    const patient = await examine(connected);
    for (const check of CHECKS) findings.push(...(await check(patient)));
    return { findings, differences: patient.differences };
  });
}

const COLOUR = { ok: 'green', note: 'yellow', problem: 'red' } as const;

function print({ stdout }: Io, { check, result, found, advice }: Finding): void {
  const label = coloured(stdout, COLOUR[result], result.padEnd(7));
  stdout.write(`${label}  ${printable(`${check}: ${found}`)}\n`);
  if (advice !== null) stdout.write(`         ${printable(advice)}\n`);
}
