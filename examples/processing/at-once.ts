import { newPostgresInput } from 'dapper-postgres-input';

const [connectionString = '', shop = ''] = process.argv.slice(2);
const input = await newPostgresInput(
  { name: 'shop', type: 'postgres', connectionString },
  { tables: { include: ['orders', 'lines'] }, foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

await input.process(
  async (event, { signal }) => {
    const response = await fetch(shop, { method: 'POST', body: JSON.stringify(event), signal });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`${shop} answered ${response.status}`);
  },
  {
    concurrency: 32,
    // An order and its lines keep their order among each other. A TRUNCATE has no key.
    key: ({ location, key, id }) => key?.[location === 'orders' ? 'id' : 'order_id'] ?? `${location} ${id}`,
    drainTimeout: 20_000,
  },
);
