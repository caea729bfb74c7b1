import { type ChangeEvent, newPostgresInput } from 'dapper-postgres-input';

interface Tables {
  orders: { id: number; email: string; status: 'new' | 'paid' | 'shipped' | 'delivered' };
}

const [connectionString = '', mailer = ''] = process.argv.slice(2);
const input = await newPostgresInput<Tables>(
  { name: 'mail', type: 'postgres', connectionString, operations: ['update'] },
  { tables: { include: ['orders'] }, rows: 'both', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

async function send({ trigger, sequence, id, before, after, dataOmitted }: ChangeEvent<Tables>) {
  if (dataOmitted) throw new Error(`order ${id} came without its row: ${dataOmitted}`);
  if (before?.status === 'shipped' || after?.status !== 'shipped') return;
  const response = await fetch(mailer, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': `${trigger}-${sequence}` },
    body: JSON.stringify({ to: after.email, text: `Order ${id} is on its way.` }),
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`${mailer} answered ${response.status}`);
}

await input.process(send, { concurrency: 8, retry: { attempts: 20 } });
