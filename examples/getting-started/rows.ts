import { newPostgresInput } from 'dapper-postgres-input';

interface Tables {
  orders: { id: number; email: string; status: 'new' | 'paid' | 'shipped' };
}
const connectionString = process.argv[2] ?? 'postgres://app@localhost/shop';
const input = await newPostgresInput<Tables>(
  { name: 'sales', connectionString },
  { rows: 'both', tables: { include: ['orders'] } },
);
process.once('SIGTERM', () => void input.close());
await input.process(async ({ operation, id, before, after }) => {
  console.log(operation, id, before?.status, '->', after?.status); // update 1 paid -> shipped
});
