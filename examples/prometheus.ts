/**
 * The metrics of an input for Prometheus, with prom-client. docs/grafana.json is a dashboard for them.
 *
 *   node --import tsx examples/prometheus.ts postgres://postgres@localhost/postgres 9464
 *
 * Every scrape reads the metrics once. While the database is away, the gauges that are read from it are absent.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type ChangeEvent, type Metrics, newPostgresInput } from 'dapper-postgres-input';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

const [connectionString = '', port = '9464'] = process.argv.slice(2);
const input = await newPostgresInput({ name: 'sales', type: 'postgres', connectionString });

const registry = new Registry();
registry.setDefaultLabels({ input: input.id });
const registers = [registry];
const gauge = (name: string, help: string, ...labelNames: string[]) =>
  new Gauge({ name: `postgres_input_${name}`, help, labelNames, registers });
const counter = (name: string, help: string) =>
  new Counter({ name: `postgres_input_${name}_total`, help, registers });

const gauges = {
  backlog: gauge('backlog', 'Changes that are not acknowledged'),
  oldestAgeSeconds: gauge('oldest_age_seconds', 'The age of the oldest of them'),
  inFlight: gauge('in_flight', 'Events in hand'),
  retrying: gauge('retrying', 'Events that have failed and come again'),
  parked: gauge('parked', 'Events that are parked'),
  blockedKeys: gauge('blocked_keys', 'Keys that wait for the next attempt of an event'),
};
const counters = {
  handedOut: counter('handed_out', 'Events that were handed out, also those that came again'),
  acknowledged: counter('acknowledged', 'Events that the consumer has acknowledged'),
  redelivered: counter('redelivered', 'Events that were handed out once more'),
  conditionErrors: counter('condition_errors', 'Statements for which a condition `when` has failed'),
};
const active = gauge('active', '1 on the node that hands out events');
const health = gauge('health', '0: ok, 1: warn, 2: error', 'check');
const processing = new Histogram({
  name: 'postgres_input_process_seconds',
  help: 'The time that the handler takes',
  labelNames: ['location', 'outcome'],
  buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10],
  registers,
});

function collect(metrics: Metrics | null): void {
  active.set(input.state === 'active' ? 1 : 0);
  for (const { name, status } of input.health().checks)
    health.set({ check: name }, ['ok', 'warn', 'error'].indexOf(status));
  for (const [name, metric] of Object.entries(gauges)) {
    if (metrics) metric.set(metrics[name as keyof typeof gauges] ?? 0);
    else metric.remove();
  }
  if (!metrics) return;
  // The input has counted already: a counter of prom-client takes the sum by starting anew.
  for (const [name, metric] of Object.entries(counters)) {
    metric.reset();
    metric.inc(metrics[name as keyof typeof counters]);
  }
}

const server = createServer((_, response) => {
  void (async () => {
    collect(await input.metrics().catch(() => null));
    response.setHeader('content-type', registry.contentType);
    response.end(await registry.metrics());
  })();
});
server.listen(Number(port));
await once(server, 'listening');
console.log(`listening on ${(server.address() as AddressInfo).port}`);
process.once('SIGTERM', () => void input.close());

async function handle({ operation, location, id }: ChangeEvent): Promise<void> {
  console.log(operation, location, id);
}

await input.process(async (event) => {
  const observe = processing.startTimer({ location: event.location });
  try {
    await handle(event);
    observe({ outcome: 'acknowledged' });
  } catch (error) {
    observe({ outcome: 'failed' });
    throw error;
  }
});
server.close();
