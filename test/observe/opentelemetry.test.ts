/** Spans and metrics by OpenTelemetry, with its SDK: what a node's events become. */
import { SpanKind, SpanStatusCode, context, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent, PostgresInput } from '../../src/index.ts';
import { instrument } from '../../src/opentelemetry.ts';
import { newTestInput } from '../../src/testing.ts';
import { Consumer, once } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  return () => context.disable();
});

class Reader extends MetricReader {
  protected async onForceFlush() {}
  protected async onShutdown() {}
}

/** Instruments an input with an SDK that keeps what it is given. */
function instrumented(input: PostgresInput) {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const reader = new Reader();
  const meterProvider = new MeterProvider({ readers: [reader] });
  const instrumentation = instrument(input, { tracerProvider, meterProvider });
  onTestFinished(() => instrumentation.end());
  /** The data points of every metric, by its name. */
  const metrics = async () => {
    const { resourceMetrics, errors } = await reader.collect();
    expect(errors).toEqual([]);
    return Object.fromEntries(
      resourceMetrics.scopeMetrics.flatMap(({ scope, metrics: all }) =>
        all.map(({ descriptor, dataPoints }) => {
          expect(scope.name).toBe('dapper-postgres-input');
          return [descriptor.name, dataPoints];
        }),
      ),
    );
  };
  return { instrumentation, tracerProvider, spans: () => exporter.getFinishedSpans(), metrics };
}

async function setup() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const input = await fixture.input();
  const sdk = instrumented(input);
  const tracer = sdk.tracerProvider.getTracer('application');
  return { ...sdk, database: fixture.database, input, tracer };
}

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const WRITER = 'b7ad6b7169203331';
/** Plain SQL that writes under a trace. */
const written = (sql: string, tagged: object) =>
  `BEGIN; SELECT set_config('postgres_input.context', '${JSON.stringify(tagged)}', true); ${sql}; COMMIT`;

const shared = {
  'messaging.system': 'dapper_postgres_input',
  'messaging.operation.name': 'process',
  'messaging.destination.name': 'items',
  'messaging.consumer.group.name': 'test_input',
};
const attributesOf = ({ sequence, operation, attempt }: ChangeEvent) => ({
  ...shared,
  'messaging.operation.type': 'process',
  'messaging.message.id': sequence,
  'messaging.dapper_postgres_input.operation': operation,
  'messaging.dapper_postgres_input.attempt': attempt,
});
const failed = { status: { code: SpanStatusCode.ERROR } };
const idOf = (span: ReadableSpan) => span.attributes['messaging.message.id'];

async function started(input: PostgresInput, start: () => void): Promise<void> {
  const asleep = once(input, 'asleep');
  start();
  await asleep;
}

test('process(): a span lasts as long as the handler, is active in it, and has a link to the writer', async () => {
  const { database, input, tracer, spans, metrics, instrumentation } = await setup();
  const events: ChangeEvent[] = [];
  const error = Object.assign(new Error('no route'), { code: 'E_ROUTE' });
  await started(input, () => {
    void input.process(
      async (event) => {
        events.push(event);
        expect(trace.getSpan(context.active())).toBe(trace.getSpan(instrumentation.contextOf(event)));
        await new Promise(setImmediate);
        tracer.startSpan('the work').end();
        if (event.attempt === 1) throw error;
      },
      { retry: { minDelay: 1 } },
    );
  });
  await database.query(
    written('INSERT INTO items VALUES (1)', { traceparent: `00-${TRACE}-${WRITER}-01`, tracestate: 'a=b' }),
  );
  await until(() => spans().length === 4);
  const [work, first, , second] = spans();
  expect(first).toMatchObject({
    name: 'process items',
    kind: SpanKind.CONSUMER,
    parentSpanContext: undefined,
    attributes: { ...attributesOf(events[0]!), 'error.type': 'E_ROUTE' },
    links: [{ context: { traceId: TRACE, spanId: WRITER, traceFlags: 1 } }],
    status: { code: SpanStatusCode.ERROR, message: 'no route' },
    events: [{ name: 'exception', attributes: { 'exception.message': 'no route' } }],
  });
  expect(first!.links[0]!.context.traceState!.get('a')).toBe('b');
  expect(work!.parentSpanContext!.spanId).toBe(first!.spanContext().spanId);
  expect(second).toMatchObject({
    attributes: attributesOf(events[1]!),
    status: { code: SpanStatusCode.UNSET },
  });
  expect(second!.spanContext().traceId).not.toBe(first!.spanContext().traceId);

  await until(async () => (await input.metrics()).acknowledged === 1);
  const found = await metrics();
  expect(found['messaging.client.consumed.messages']).toMatchObject([{ attributes: shared, value: 2 }]);
  expect(found['messaging.process.duration']).toMatchObject([
    { attributes: { ...shared, 'error.type': 'E_ROUTE' }, value: { count: 1 } },
    { attributes: shared, value: { count: 1 } },
  ]);
  const values = Object.fromEntries(
    Object.entries(found)
      .filter(([name]) => name.startsWith('dapper_postgres_input.'))
      .map(([name, [point]]) => [name.slice('dapper_postgres_input.'.length), point!.value]),
  );
  expect(values).toEqual({
    backlog: 0,
    lag: 0,
    in_flight: 0,
    retrying: 0,
    parked: 0,
    blocked_keys: 0,
    handed_out: 2,
    acknowledged: 1,
    redelivered: 1,
    condition_errors: 0,
  });
});

test.each(['auto', 'manual'] as const)(
  'handle(), ack: %s: a span lasts to the acknowledgement, and its context is at hand',
  async (ack) => {
    const { database, input, tracer, spans, instrumentation } = await setup();
    let consumer!: Consumer;
    await started(input, () => {
      consumer = new Consumer(input, { ack }, async (event) => {
        expect(spans().some((span) => idOf(span) === event.sequence)).toBe(false);
        tracer.startSpan('the work', {}, instrumentation.contextOf(event)).end();
        if (ack === 'manual') await input.ack(event);
      });
    });
    await database.query('INSERT INTO items VALUES (1), (2)');
    await until(() => spans().length === 4);
    const [one, two] = consumer.events;
    const [work, first, , second] = spans();
    expect([first!.attributes, second!.attributes]).toEqual([attributesOf(one!), attributesOf(two!)]);
    expect(first).toMatchObject({
      kind: SpanKind.CONSUMER,
      links: [],
      status: { code: SpanStatusCode.UNSET },
    });
    expect(work!.parentSpanContext!.spanId).toBe(first!.spanContext().spanId);
  },
);

test('handle(): the span of an event that is not acknowledged ends with an error', async () => {
  const { database, input, spans } = await setup();
  let consumer!: Consumer;
  await started(input, () => {
    consumer = new Consumer(input, { ack: 'manual' });
  });
  await database.query('INSERT INTO items VALUES (1), (2), (3)');
  await consumer.count(3);
  const [one, two, three] = consumer.events;
  await input.nack(one!, { error: new RangeError('too far'), delay: 60_000 });
  await input.park(two!, 'broken');
  await input[Symbol.asyncDispose]();
  expect(spans().map((span) => [idOf(span), span.status.message, span.attributes['error.type']])).toEqual([
    [one!.sequence, 'too far', 'RangeError'],
    [two!.sequence, 'broken', '_OTHER'],
    [three!.sequence, 'the event was not acknowledged, and comes again', 'not_acknowledged'],
  ]);
  expect(spans()[0]).toMatchObject(failed);
});

test('the span of a handler that throws what can not be printed ends with an error', async () => {
  const input = await newTestInput();
  const { instrumentation, spans } = instrumented(input);
  onTestFinished(() => input[Symbol.asyncDispose]());
  const thrown = Object.create(null) as Error;
  const ended = input.process(() => Promise.reject(thrown), {
    retry: { attempts: 1 },
    exhausted: 'stop',
  });
  const event = input.emit({ location: 'items', operation: 'create' });
  await expect(ended).rejects.toBe(thrown);
  expect(spans()).toMatchObject([
    { status: { message: 'the error can not be printed' }, attributes: { 'error.type': '_OTHER' } },
  ]);
  expect(idOf(spans()[0]!)).toBe(event.sequence);
  expect(input.health().checks[0]!.message).toContain('the error can not be printed');
  instrumentation.end();
});

test('the span of an event that was announced by hand ends, with handle() and with process()', async () => {
  const { database, input, spans } = await setup();
  const announce = () => database.query(`NOTIFY test_input, '{"tbl":"items","id":"7","op":"INSERT"}'`);
  const events = input.handle();
  const next = events.next();
  await once(input, 'asleep');
  await announce();
  await next;
  await until(() => spans().length === 1);
  await events.return!();
  let finish!: () => void;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  let isRunning = false;
  await started(input, () => {
    void input.process(async () => {
      isRunning = true;
      await finished;
    });
  });
  await announce();
  await until(() => isRunning);
  expect(spans()).toHaveLength(1);
  finish();
  await until(() => spans().length === 2);
  expect(idOf(spans()[1]!)).toBeUndefined();
});

test.each([
  'no object',
  { traceparent: 7 },
  { traceparent: 'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
  { traceparent: '00-00000000000000000000000000000000-b7ad6b7169203331-01' },
  null,
])('a context without a trace makes no link: %j', async (tagged) => {
  const { database, input, spans } = await setup();
  await started(input, () => void input.process(() => {}));
  await database.query(written('INSERT INTO items VALUES (1)', tagged as object));
  await until(() => spans().length === 1);
  expect(spans()[0]!.links).toEqual([]);
});

test('an event has one span, however often its input is instrumented, and none after the end', async () => {
  const { database, input, instrumentation, spans, tracerProvider } = await setup();
  const other = instrument(input, { tracerProvider });
  onTestFinished(() => other[Symbol.dispose]());
  let consumer!: Consumer;
  await started(input, () => {
    consumer = new Consumer(input);
  });
  await database.query('INSERT INTO items VALUES (1)');
  await until(() => spans().length > 0);
  instrumentation.end();
  other.end();
  await database.query('INSERT INTO items VALUES (2)');
  await consumer.count(2);
  expect(trace.getSpan(instrumentation.contextOf(consumer.events[1]!))).toBeUndefined();
  expect(spans()).toHaveLength(1);
  expect(input.listenerCount('retrying')).toBe(0);
});

test('the end of a term of another database, whose input has the same name, ends no span here', async () => {
  const inputs = await Promise.all([newTestInput({ name: 'tenant' }), newTestInput({ name: 'tenant' })]);
  const [here, there] = inputs;
  for (const input of inputs) onTestFinished(() => input[Symbol.asyncDispose]());
  // The tokens of two databases are times, and differ.
  await there.takeover();
  const { spans } = instrumented(here);
  const events = here.handle();
  const next = events.next();
  const active = once(there, 'active');
  void there.handle().next();
  await active;
  here.emit({ location: 'items', operation: 'create' });
  await next;
  await there.close();
  expect(spans()).toEqual([]);
  await here.takeover();
  expect(spans()).toMatchObject([{ attributes: { 'error.type': 'not_acknowledged' } }]);
});

test('the span of an event that is parked ends, also if another node of the process has the same name', async () => {
  const inputs = await Promise.all([newTestInput({ name: 'tenant' }), newTestInput({ name: 'tenant' })]);
  const sdks = inputs.map(instrumented);
  for (const input of inputs) {
    onTestFinished(() => input[Symbol.asyncDispose]());
    const events = input.handle({ ack: 'manual' });
    const next = events.next();
    input.emit({ location: 'items', operation: 'create' });
    await input.park((await next).value!, new TypeError('no such item'));
  }
  const ended = sdks.flatMap(({ spans }) => spans()).map(({ attributes }) => attributes['error.type']);
  expect(ended).toEqual(['TypeError', 'TypeError']);
});
