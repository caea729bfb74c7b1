/**
 * A node that books payments: for each event a transaction that changes two balances, notes the payment, and
 * acknowledges the event. It kills, or freezes, itself at a certain point of its tenth payment.
 */
import pg from 'pg';
import { PostgresInputError, newPostgresInput } from '../../src/index.ts';

export type Point = 'in hand' | 'booked' | 'acknowledged' | 'committed';
export interface LedgerSetup {
  url: string;
  at: Point | null;
  signal: 'SIGKILL' | 'SIGSTOP';
}
export type LedgerReport = { is: 'standby' | 'active' } | { is: 'refused'; error: string };

const setup = JSON.parse(process.argv[2]!) as LedgerSetup;
const report = (message: LedgerReport): void => void process.send?.(message);
const client = new pg.Client({ connectionString: setup.url });
await client.connect();
const input = await newPostgresInput(
  { name: 'ledger', type: 'postgres', connectionString: setup.url },
  { connectTimeout: 15_000, tables: { include: ['payments'] } },
);
input.on('standby', () => report({ is: 'standby' })).on('active', () => report({ is: 'active' }));

let payments = 0;
function pass(point: Point): void {
  if (point === 'in hand') payments++;
  if (payments === 10 && point === setup.at) process.kill(process.pid, setup.signal);
}

for await (const event of input.handle()) {
  pass('in hand');
  try {
    await client.query('BEGIN');
    await client.query(
      `UPDATE balances b SET cents = b.cents + CASE WHEN account = p.payee THEN p.cents ELSE -p.cents END
       FROM payments p WHERE p.id = $1 AND account IN (p.payer, p.payee)`,
      [event.id],
    );
    await client.query('INSERT INTO booked (payment, sequence) VALUES ($1, $2)', [event.id, event.sequence]);
    pass('booked');
    await input.ack(event, client);
    pass('acknowledged');
    await client.query('COMMIT');
    pass('committed');
  } catch (error) {
    await client.query('ROLLBACK');
    if (!(error instanceof PostgresInputError)) throw error;
    report({ is: 'refused', error: error.code });
  }
}
