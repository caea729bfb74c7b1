import { PostgresInputError } from '../api/errors.ts';
import { tryConnecting } from '../node/connect.ts';
import { type Call, type Command, EXIT, inSession } from './command.ts';
import { INSTALLATION } from './doctor-check-installation.ts';
import { OPERATION } from './doctor-check-operation.ts';
import { type Finding, examine, ok, problem } from './doctor-finding.ts';
import { coloured, printJson, printable } from './output.ts';

export const doctor: Command = {
  summary: 'look for what is wrong, and tell what to do about it',
  details: `\
Looks at the connection (poolers and standbys), the server, rights, what is installed and what should be,
disabled triggers, leftovers, the backlog, other inputs of the same internal schema that nobody serves, the
notification queue. Changes nothing. Run it as the role of the nodes, and with their options.
Exit code 3: there are problems; notes do not count.`,
  options: {},
  async run(call) {
    const findings = await examination(call);
    const sound = findings.every(({ result }) => result !== 'problem');
    const { settings, values, io } = call;
    if (values.json) printJson(io, { id: settings.id, ok: sound, findings });
    else for (const finding of findings) print(call, finding);
    return sound ? EXIT.ok : EXIT.problems;
  },
};

async function examination({ settings, names }: Call): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    await tryConnecting(settings, names);
    findings.push(ok('connection', 'notifications arrive'));
  } catch (error) {
    if (!(error instanceof PostgresInputError)) throw error;
    return [problem('connection', ...foundAndAdvice(error.message))];
  }
  await inSession(settings, async (session) => {
    const patient = await examine(session, settings, names);
    for (const check of [...INSTALLATION, ...OPERATION]) findings.push(...(await check(patient)));
  });
  return findings;
}

/** Our messages end with what to do, after a colon. */
function foundAndAdvice(message: string): [string, string] {
  const colon = message.lastIndexOf(': ');
  return colon === -1 ? [message, ''] : [message.slice(0, colon), message.slice(colon + 2)];
}

const COLOUR = { ok: 'green', note: 'yellow', problem: 'red' } as const;

function print({ io: { stdout } }: Call, { check, result, found, advice }: Finding): void {
  const label = coloured(stdout, COLOUR[result], result.padEnd(7));
  stdout.write(`${label}  ${printable(`${check}: ${found}`)}\n`);
  if (advice !== null) stdout.write(`         ${printable(advice)}\n`);
}
