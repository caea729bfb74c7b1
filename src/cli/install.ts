import { install as installMissing } from '../schema/install.ts';
import { type Step, summaryOf } from '../schema/steps.ts';
import { EXIT, command } from './command.ts';
import { givenInput, onInput } from './input.ts';
import { printJson, printRows, tableList } from './output.ts';
import { warningsOf } from './remarks.ts';

export const install = command({
  summary: 'put the triggers and the internal tables in place',
  details: `\
Nodes do this by themselves when they start, unless their option install is false. Changes are kept from
then on, until a node takes them. Options that are not given stay those under which the input was installed.
Exit code 3: some tables had to be left out; the output says why.`,
  options: {},
  async run(call) {
    const { values, io } = call;
    return onInput(givenInput(call), async ({ session, settings, names }) => {
      const undone = new Map<string, string>();
      const onUndone = (step: Step, { message }: Error) => void undone.set(summaryOf(step), message);
      const installation = await installMissing(session, settings, names, { onUndone });
      const { watched, unwatchable, pending, ...remarks } = installation;
      if (values.json)
        printJson(io, {
          id: settings.id,
          watched,
          unwatchable,
          pending,
          ...(undone.size > 0 && { undone: Object.fromEntries(undone) }),
          ...remarks,
        });
      else {
        printRows(io, [
          ['watched', tableList(watched)],
          ...unwatchable.map(({ table, reason }) => ['left out', `${table}: ${reason}`] as const),
          ...pending.map((table) => ['left out', `${table}: it stayed locked, run install again`] as const),
          ...[...undone].map(([step, reason]) => ['left out', `${step}: ${reason}`] as const),
          ...warningsOf(remarks).map((warning) => ['warning', warning] as const),
        ]);
      }
      return unwatchable.length + pending.length + undone.size === 0 ? EXIT.ok : EXIT.problems;
    });
  },
});
