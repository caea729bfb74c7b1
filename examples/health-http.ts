/**
 * A consumer with the endpoints that Kubernetes and Prometheus ask for, on plain node:http.
 *
 *   node --import tsx examples/health-http.ts postgres://postgres@localhost/postgres 8080
 *
 * - /live: 200 as long as the process answers. It does not ask for the database: a restart would not bring that back.
 * - /ready: 503 while the node takes no part, with the checks that say why. A standby is ready. Alerts come from the checks that warn.
 * - /metrics: for Prometheus.
 * - SIGTERM: /ready says no, the event in hand is finished, another node takes over at once, and the process exits with code 0.
 */
import { once } from 'node:events';
import { type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Metrics, newPostgresInput } from 'dapper-postgres-input';

const [connectionString = '', port = '8080'] = process.argv.slice(2);
const input = await newPostgresInput(
  { name: 'sales', type: 'postgres', connectionString },
  { logger: console },
);

const server = createServer((request, response) => {
  respond(request.url ?? '/', response).catch((error: Error) => send(response, 503, `${error.message}\n`));
});
server.listen(Number(port));
await once(server, 'listening');
console.log(`listening on ${(server.address() as AddressInfo).port}`);
process.once('SIGTERM', () => void input.close());

for await (const { operation, location, id } of input.handle({ reconnect: true })) {
  console.log(operation, location, id);
}
server.close();

async function respond(path: string, response: ServerResponse): Promise<void> {
  if (path === '/live') return send(response, 200, 'alive\n');
  if (path === '/metrics') return send(response, 200, exposition(await input.metrics()));
  if (path !== '/ready') return send(response, 404, 'use /live, /ready or /metrics\n');
  const health = input.health();
  send(response, health.status === 'error' ? 503 : 200, `${JSON.stringify(health, null, 2)}\n`);
}

function send(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text);
}

/** The text format of Prometheus. */
function exposition(metrics: Metrics): string {
  const lines = [
    ['backlog', 'gauge', metrics.backlog],
    ['oldest_age_seconds', 'gauge', metrics.oldestAgeSeconds ?? 0],
    ['in_flight', 'gauge', metrics.inFlight],
    ['retrying', 'gauge', metrics.retrying],
    ['parked', 'gauge', metrics.parked],
    ['blocked_keys', 'gauge', metrics.blockedKeys],
    ['handed_out_total', 'counter', metrics.handedOut],
    ['acknowledged_total', 'counter', metrics.acknowledged],
    ['redelivered_total', 'counter', metrics.redelivered],
  ] as const;
  const label = `{input=${JSON.stringify(input.id)}}`;
  return lines
    .map(
      ([name, type, value]) =>
        `# TYPE postgres_input_${name} ${type}\npostgres_input_${name}${label} ${value}\n`,
    )
    .join('');
}
