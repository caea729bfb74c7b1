/**
 * The endpoints of examples/health-http.ts with Fastify: liveness, readiness, and a graceful end.
 *
 *   node --import tsx examples/health-fastify.ts postgres://postgres@localhost/postgres 8080
 *
 * SIGTERM: /ready says no, the handlers that run finish, another node takes over at once, and the process exits with code 0.
 */
import type { AddressInfo } from 'node:net';
import { newPostgresInput } from 'dapper-postgres-input';
import fastify from 'fastify';

const [connectionString = '', port = '8080'] = process.argv.slice(2);
const app = fastify();
const input = await newPostgresInput({ name: 'sales', type: 'postgres', connectionString });

// It does not ask for the database: to restart the process would not bring that back.
app.get('/live', () => ({ status: 'ok' }));
// A standby is ready. Alerts come from the checks that warn.
app.get('/ready', (_, reply) => {
  const health = input.health();
  return reply.code(health.status === 'error' ? 503 : 200).send(health);
});
app.get('/metrics', () => input.metrics());

await app.listen({ port: Number(port), host: '0.0.0.0' });
console.log(`listening on ${(app.server.address() as AddressInfo).port}`);
process.once('SIGTERM', () => void input.close());

await input.process(({ operation, location, id }) => console.log(operation, location, id), {
  concurrency: 8,
});
await app.close();
