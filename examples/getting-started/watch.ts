import { newPostgresInput } from 'dapper-postgres-input';

const input = await newPostgresInput({
  name: 'sales', // nodes of one name on one database share the work
  connectionString: process.argv[2] ?? 'postgres://app@localhost/shop',
});
process.once('SIGTERM', () => void input.close());
for await (const { operation, location, id } of input.handle({ reconnect: true })) {
  console.log(operation, location, id); // create orders 1
}
