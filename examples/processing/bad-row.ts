import { newPostgresInput } from 'dapper-postgres-input';

const [connectionString = '', bank = ''] = process.argv.slice(2);
const input = await newPostgresInput<{ invoices: { id: number; iban: string } }>(
  { name: 'invoices', type: 'postgres', connectionString, operations: ['create', 'update'] },
  { tables: { include: ['invoices'] }, rows: 'after', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());
input.on('retrying', ({ id, attempt, error, delay }) =>
  console.error(`invoice ${id}, attempt ${attempt}: ${String(error)}; again in ${Math.round(delay)} ms`),
);
input.on('parked', ({ id, attempts, error }) =>
  console.error(`invoice ${id} is parked after ${attempts}: ${String(error)}`),
);

await input.process(
  async ({ trigger, sequence, id, after, dataOmitted }, { signal }) => {
    if (dataOmitted) throw new Error(`invoice ${id} came without its row: ${dataOmitted}`);
    const response = await fetch(bank, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': `${trigger}-${sequence}` },
      body: JSON.stringify(after),
      signal,
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`${bank} answered ${response.status}`);
  },
  { retry: { attempts: 5, minDelay: 100, maxDelay: 60_000 } },
);
