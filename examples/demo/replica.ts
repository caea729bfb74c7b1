/**
 * One replica of the demo, a process of its own: what a user of the package writes. It tells its parent of every event
 * before it asks for the next one, which is what acknowledges it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type ChangeEvent, newPostgresInput } from 'dapper-postgres-input';

/** What a replica tells the demo. */
export type Report =
  | { type: 'standby' }
  | { type: 'active'; fencingToken: string }
  | { type: 'received'; event: ChangeEvent };

const { DEMO_DSN = '', DEMO_SCHEMA = '', DEMO_INTERNAL_SCHEMA = '' } = process.env;
const report = (message: Report) => new Promise((resolve) => process.send!(message, resolve));

const input = await newPostgresInput(
  { name: 'demo', type: 'postgres', connectionString: DEMO_DSN },
  // A machine that starts three processes at once may need more than the default 500 ms.
  {
    schemas: [DEMO_SCHEMA],
    internalSchema: DEMO_INTERNAL_SCHEMA,
    rows: 'both',
    initial: 'read',
    connectTimeout: 10_000,
  },
);
input.on('standby', () => void report({ type: 'standby' }));
input.on('active', ({ fencingToken }) => void report({ type: 'active', fencingToken }));
process.once('SIGTERM', () => void input.close());
process.once('SIGINT', () => {}); // Ctrl-C: the demo ends its replicas itself

for await (const event of input.handle()) {
  await report({ type: 'received', event });
  await delay(1); // what is done with an event takes its time
}
process.disconnect();
