import { PostgresInputError } from '../api/errors.ts';
import type { OptionDifference } from '../api/installation.ts';
import { type Wakeup, tryConnecting } from '../node/connect.ts';
import { installedInputs } from '../schema/inputs.ts';
import { type Call, EXIT, type ExitCode, command } from './command.ts';
import { backlog, otherInputs } from './doctor-check-backlog.ts';
import { conditions } from './doctor-check-conditions.ts';
import {
  drift,
  installedVersion,
  internalTableParts,
  internalTables,
  leftovers,
  options,
  sequence,
  tables,
  triggers,
} from './doctor-check-installation.ts';
import { rights } from './doctor-check-rights.ts';
import { publications, server, sleepLock, version } from './doctor-check-server.ts';
import {
  type Check,
  type DatabaseCheck,
  type Finding,
  examine,
  note,
  ok,
  problem,
  problemFrom,
} from './doctor-finding.ts';
import { type GivenInput, givenInput, inSession, onInput, refuseInputOptions } from './input.ts';
import { type Io, coloured, printJson, printable } from './output.ts';

const OF_INPUT: readonly Check[] = [
  rights,
  installedVersion,
  options,
  drift,
  internalTableParts,
  internalTables,
  sequence,
  tables,
  conditions,
  triggers,
  leftovers,
  backlog,
  sleepLock,
];
const OF_DATABASE: readonly DatabaseCheck[] = [version, server, publications];

export const doctor = command({
  summary: 'look for what is wrong, and tell what to do about it',
  details: `\
Looks at the connection (poolers and standbys), the server, rights, the installed version and its options, what
is installed and what should be, disabled triggers, leftovers, the backlog, other inputs of the database that
nobody serves, the notification queue. Changes nothing. Run it as the role of the nodes. If you give it the
nodes' options, it tells whether the input is installed with them.
Without --name it looks at every input of the database.
Exit code 3: there are problems; notes do not count.`,
  options: {},
  run: (call) => (call.values.name === undefined ? examineAll(call) : examineOne(call)),
});

async function examineOne(call: Call): Promise<ExitCode> {
  const { values, io } = call;
  const input = givenInput(call);
  const { findings, differences } = await examination(input, [...OF_INPUT, otherInputs, ...OF_DATABASE]);
  if (values.json) {
    const differing = differences.length > 0 && { differences };
    printJson(io, { id: input.names.id, ok: isSound(findings), findings, ...differing });
  } else for (const finding of findings) print(io, finding);
  return isSound(findings) ? EXIT.ok : EXIT.problems;
}

/** Each input with the options under which it is installed. */
async function examineAll(call: Call): Promise<ExitCode> {
  const { values, io } = call;
  refuseInputOptions(
    values,
    (option) => `without --name doctor looks at every input: ${option} describes one; say which with --name`,
  );
  const { findings, inputs } = await examineDatabase(givenInput(call, 'doctor'));
  const reports = [];
  for (const { name, names } of inputs) {
    const input = givenInput({ ...call, values: { ...values, 'internal-schema': names.schema } }, name);
    const { findings } = await examination(input, OF_INPUT).catch((error: Error) => ({
      findings: [problem('examination', error.message, 'run doctor with this --name')],
    }));
    reports.push({ id: names.id, name, internalSchema: names.schema, ok: isSound(findings), findings });
  }
  const allSound = isSound(findings) && reports.every(({ ok }) => ok);
  if (values.json) printJson(io, { ok: allSound, findings, inputs: reports });
  else {
    for (const finding of findings) print(io, finding);
    for (const { name, internalSchema, findings } of reports) {
      io.stdout.write(printable(`input ${name}, in schema ${internalSchema}`) + '\n');
      for (const finding of findings) print(io, finding);
    }
  }
  return allSound ? EXIT.ok : EXIT.problems;
}

const isSound = (findings: readonly Finding[]): boolean =>
  findings.every(({ result }) => result !== 'problem');

/** What there is to find beside the inputs. */
async function examineDatabase({ settings }: GivenInput) {
  try {
    return await inSession(settings, async (session) => {
      const inputs = await installedInputs(session);
      const findings: Finding[] = [];
      for (const check of OF_DATABASE) findings.push(...(await check({ session })));
      if (inputs.length === 0)
        findings.push(
          note('inputs', 'none is installed in this database', 'start a node, or run install --name'),
        );
      return { findings, inputs };
    });
  } catch (error) {
    if (!(error instanceof PostgresInputError)) throw error;
    return { findings: [problemFrom('connection', error.message)], inputs: [] };
  }
}

const CONNECTION: Readonly<Record<Wakeup, Finding>> = {
  notify: ok('connection', 'notifications arrive'),
  unproven: note('connection', 'no notification can be sent', 'see to the notification queue first'),
  poll: note(
    'connection',
    'nodes poll with this wakeup and this connection string',
    'for events without delay and a takeover as soon as a node dies, connect to the server itself or give nodes a listenConnectionString',
  ),
};

interface Examination {
  readonly findings: readonly Finding[];
  readonly differences: readonly OptionDifference[];
}

async function examination(input: GivenInput, checks: readonly Check[]): Promise<Examination> {
  let wakeup: Wakeup;
  try {
    wakeup = await tryConnecting(input.settings, input.names);
  } catch (error) {
    if (!(error instanceof PostgresInputError)) throw error;
    return { findings: [problemFrom('connection', error.message)], differences: [] };
  }
  return onInput(input, async (connected) => {
    const findings = [CONNECTION[wakeup]];
    const patient = await examine(connected);
    for (const check of checks) findings.push(...(await check(patient)));
    return { findings, differences: patient.differences };
  });
}

const COLOUR = { ok: 'green', note: 'yellow', problem: 'red' } as const;

function print(io: Io, { check, result, found, advice }: Finding): void {
  const { stdout } = io;
  const label = coloured(io, COLOUR[result], result.padEnd(7));
  stdout.write(`${label}  ${printable(`${check}: ${found}`)}\n`);
  if (advice !== null) stdout.write(`         ${printable(advice)}\n`);
}
