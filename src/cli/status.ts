import { readStatus } from '../node/status.ts';
import type { Session } from '../postgres/session.ts';
import { plan } from '../schema/plan.ts';
import { EXIT, command } from './command.ts';
import { givenInput, inSession } from './input.ts';
import { duration, plural, printJson, printRows, tableList } from './output.ts';

export const status = command({
  summary: 'tell who is active, what waits, and which tables are watched',
  details: `\
Which tables are watched depends on the options: give those that the nodes have. Tables that are pending
lack a trigger, or have an outdated one; the next node to start, or install, sees to them.`,
  options: {},
  async run(call) {
    const { values, io } = call;
    const report = await inSession(givenInput(call), async ({ session, settings, names }) => {
      const shared = await readStatus(session, names);
      const { steps, watched, unwatchable } = await plan(session, settings, names);
      const pending = [...new Set(steps.flatMap((step) => step.table ?? []))];
      const oldestChangeAge = await ageOf(session, shared.oldestChangeAt);
      return { id: settings.id, ...shared, oldestChangeAge, watched, unwatchable, pending };
    });
    if (values.json) {
      printJson(io, report);
      return EXIT.ok;
    }
    const { lease, backlog, oldestChangeAt, oldestChangeAge, watched, unwatchable, pending } = report;
    printRows(io, [
      ['input', report.id],
      [
        'active',
        lease
          ? `node ${lease.holder} since ${lease.acquiredAt}, fencing token ${lease.fencingToken}`
          : 'no node',
      ],
      ['backlog', plural(backlog, 'change')],
      ...(oldestChangeAge === null
        ? []
        : [['oldest change', `${duration(oldestChangeAge)} ago, at ${oldestChangeAt}`] as const]),
      ['watched', tableList(watched)],
      ...unwatchable.map(({ table, reason }) => ['not watched', `${table}: ${reason}`] as const),
      ...pending.map((table) => ['pending', table] as const),
    ]);
    return EXIT.ok;
  },
});

/** The age of `time` in milliseconds, by the database's clock, which wrote the time. */
export async function ageOf(session: Session, time: string | null): Promise<number | null> {
  const [row] = await session.query<{ age: number | null }>(
    'SELECT (extract(epoch FROM pg_catalog.clock_timestamp() - $1::timestamptz) * 1000)::float8 AS age',
    [time],
  );
  const { age } = row!;
  return age === null ? null : Math.round(age);
}
