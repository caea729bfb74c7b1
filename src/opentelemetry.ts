/**
 * The entry `dapper-postgres-input/opentelemetry`: spans and metrics of an input, by OpenTelemetry's semantic conventions for messaging
 * (https://opentelemetry.io/docs/specs/semconv/messaging/). No other file that an application loads imports @opentelemetry/api, which is
 * an optional peer.
 */
import {
  type Context,
  type MeterProvider,
  ROOT_CONTEXT,
  type TracerProvider,
  metrics,
  trace,
} from '@opentelemetry/api';
import type { ChangeEvent } from './api/change-event.ts';
import { InputMeter, type MeteredInput } from './observe/opentelemetry-metrics.ts';
import { EventTraces, type InstrumentedInput, spanOf } from './observe/opentelemetry-traces.ts';

/** The name of the tracer and of the meter. */
const SCOPE = 'dapper-postgres-input';

export interface InstrumentOptions {
  /** Default: the global one. */
  readonly tracerProvider?: TracerProvider;
  /** Default: the global one. */
  readonly meterProvider?: MeterProvider;
}

export interface Instrumentation extends Disposable {
  /**
   * The context with the span of an event that the consumer has in hand. In a handler of `process()` that context is active already. In a loop
   * over `handle()` the spans of `context.with(instrumentation.contextOf(event), work)` become children of the event's span.
   */
  contextOf(event: ChangeEvent): Context;
  /** Ends the instrumentation. Spans that are open end. */
  end(): void;
}

/**
 * Makes a span of each event and observes the input's metrics.
 *
 * With `process()` a span lasts as long as the handler. With `handle()` it lasts from the handing out to the acknowledgement. It is the root of a trace,
 * and has a link to the span that wrote the change, if the event's `context` has a `traceparent`. Each collection of the metrics calls `input.metrics()`.
 */
export function instrument(
  input: InstrumentedInput & MeteredInput,
  {
    tracerProvider = trace.getTracerProvider(),
    meterProvider = metrics.getMeterProvider(),
  }: InstrumentOptions = {},
): Instrumentation {
  const meter = new InputMeter(meterProvider.getMeter(SCOPE), input);
  const traces = new EventTraces(tracerProvider.getTracer(SCOPE), input, meter);
  const end = () => {
    traces.end();
    meter.end();
  };
  return {
    contextOf: (event) => {
      const span = spanOf(event);
      return span ? trace.setSpan(ROOT_CONTEXT, span) : ROOT_CONTEXT;
    },
    end,
    [Symbol.dispose]: end,
  };
}
