/**
 * The demo: `npm run demo`. Three replicas, each in a process of its own, watch the database of a shop; one of them is
 * killed and another one is stopped. In the end every change that the shop committed is looked for.
 *
 * It brings its own PostgreSQL. With DATABASE_DSN it uses that server, in schemas of its own that it removes in the end.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { areLastOf, audit } from './demo/audit.ts';
import { Cluster, Overdue, type Replica } from './demo/cluster.ts';
import { openDatabase } from './demo/database.ts';
import { Sales } from './demo/sales.ts';
import { count, headline, heading, print, row } from './demo/screen.ts';

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
process.once('SIGTERM', () => interrupt.abort(new Error('terminated')));
const pause = (ms: number) => delay(ms, undefined, { signal: interrupt.signal });

try {
  process.exitCode = (await play()) ? 0 : 1;
} catch (error) {
  const { message } = (interrupt.signal.reason ?? error) as Error;
  print(`\nThe demo was cut short: ${message}`);
  process.exitCode = 1;
}

/** Returns whether the package has kept its promises. */
async function play(): Promise<boolean> {
  const schema = `dapper_demo_${randomBytes(4).toString('hex')}`;
  await using database = await openDatabase(schema, process.env['DATABASE_DSN']);
  await using sales = await Sales.create(database);
  await using cluster = new Cluster(database, interrupt.signal);

  print(
    `A shop writes to its database, PostgreSQL ${database.version}. Three replicas of a program watch it, A, B and C,`,
  );
  print('each a process of its own. One is active and gets every change as an event; the others stand by.\n');
  for (const name of ['A', 'B', 'C']) cluster.start(name);
  await cluster.until(() => cluster.active !== undefined && cluster.replicas.every(isReady));

  heading(cluster.replicas);
  const lastUpdate = () => cluster.received.findLast(({ changed }) => changed !== null);
  const draw = () => row(sales.written.length, cluster.replicas, lastUpdate(), schema);
  const drawing = setInterval(draw, 500);
  try {
    const killed = await tellTheStory(sales, cluster);
    draw();
    clearInterval(drawing);
    await cluster.stop();
    return conclude(sales, cluster, killed, schema);
  } finally {
    clearInterval(drawing);
  }
}

/** The replica that was killed. */
interface Killed {
  readonly name: string;
  readonly fencingToken: string | undefined;
  /** How many events it had received in its last moments; what came before had been acknowledged long ago. */
  readonly lately: number;
}

async function tellTheStory(sales: Sales, cluster: Cluster): Promise<Killed> {
  const old = sales.written.length;
  const reads = () => cluster.received.filter(({ operation }) => operation === 'read').length;
  await cluster.until(() => reads() >= old);
  headline(`the ${old} customers that the shop had before have come as \`read\` events (initial: 'read')`);
  sales.open();
  await pause(1500);
  headline('the shop imports 1,000 customers in one statement');
  const customers = await sales.importCustomers(1000);
  await pause(1500);

  const killed = cluster.active!;
  headline('the shop updates these 1,000 customers in one statement');
  const { received } = killed;
  await Promise.all([
    sales.addToNewsletter(customers),
    cluster.until(() => killed.received > received + 300),
  ]);
  headline(`${killed.name} is killed in the middle of it (SIGKILL)`);
  const takeover = await replaceActive(cluster, 'SIGKILL');
  headline(`${cluster.active!.name} is active, ${takeover} ms after the kill`);
  await pause(1000);
  headline(`${killed.name} is started again`);
  const restarted = cluster.start(killed.name);
  await cluster.until(() => isReady(restarted));
  await pause(500);

  headline(`${cluster.active!.name} is asked to stop (SIGTERM)`);
  const handover = await replaceActive(cluster, 'SIGTERM');
  headline(`${cluster.active!.name} is active, ${handover} ms later`);
  await pause(1500);

  await sales.close();
  headline('the shop closes');
  await cluster.until(() => cluster.sequences.size >= sales.written.length).catch(unlessOverdue);
  return { name: killed.name, fencingToken: killed.fencingToken, lately: killed.received - received };
}

function isReady({ state }: Replica): boolean {
  return state === 'active' || state === 'standby';
}

/** Ends the active replica. Returns after how many milliseconds there was another one. */
async function replaceActive(cluster: Cluster, signal: 'SIGKILL' | 'SIGTERM'): Promise<number> {
  const start = performance.now();
  const ended = cluster.end(cluster.active!, signal);
  await cluster.until(() => cluster.active !== undefined);
  const elapsed = performance.now() - start;
  await ended;
  return Math.round(elapsed);
}

/** What has not come when the waiting ends is counted as lost. */
function unlessOverdue(error: unknown): void {
  if (!(error instanceof Overdue)) throw error;
}

function conclude(sales: Sales, { received }: Cluster, killed: Killed, schema: string): boolean {
  const { written, rolledBack } = sales;
  const { delivered, lost, invented, disordered, repeated } = audit(written, received, schema);
  const inHand = repeated.length <= killed.lately && areLastOf(killed.fencingToken, repeated, received);
  print();
  count(
    'written',
    written.length,
    true,
    'rows that the shop had before, and changes that it has committed, by its own account',
  );
  count('delivered', delivered, lost === 0, 'of these, by the reports of the replicas');
  count('lost', lost, lost === 0);
  count(
    'repeated',
    repeated.length,
    inHand,
    inHand
      ? `what ${killed.name} had in hand when it was killed; it came again with the same sequence`
      : `and not only what ${killed.name} had in hand when it was killed`,
  );
  count(
    'never written',
    invented,
    invented === 0,
    `events of changes that nobody committed; ${rolledBack} transactions were rolled back`,
  );
  count(
    'out of order',
    disordered,
    disordered === 0,
    'rows whose changes came in another order than they were made',
  );
  return lost === 0 && invented === 0 && disordered === 0 && inHand;
}
