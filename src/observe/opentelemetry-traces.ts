import { subscribe, unsubscribe } from 'node:diagnostics_channel';
/**
 * The span of an event, from its handing out to the end of its processing.
 *
 *   hand-out --> open --process: start--> active --process: asyncEnd--> ended     process()
 *                  |
 *                  +--acknowledge, `retrying`, `parked`, the end of the lease--> ended     handle()
 *
 * A span is the root of its trace: what happens to be active when an event is handed out, such as the handler of an event before,
 * has no part in it. The conventions want a link, not a parent, for what wrote the message.
 */
import {
  type Link,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  context,
  createTraceState,
  isSpanContextValid,
  trace,
} from '@opentelemetry/api';
import type { ChangeEvent } from '../api/change-event.ts';
import type { DiagnosticsMessages, ProcessMessage } from '../api/diagnostics.ts';
import type { FailedEvent } from '../api/lifecycle-events.ts';
import type { PostgresInput } from '../postgres-input.ts';
import { SYSTEM, errorTypeOf, sharedAttributes } from './opentelemetry-attributes.ts';

export type InstrumentedInput = Pick<PostgresInput, 'id' | 'on' | 'off'>;

/** Told what happens to events, for counters. */
export interface EventMeter {
  onHandOut(event: ChangeEvent): void;
  /** `errorType` is null if the event was processed. */
  onEnd(event: ChangeEvent, seconds: number, errorType: string | null): void;
}

interface OpenSpan {
  readonly event: ChangeEvent;
  readonly span: Span;
  readonly began: number;
  /** Whether a handler of process() has the event. */
  isProcessed: boolean;
}

/**
 * The channels name an input by its id, and a process may have several nodes of one input. So an event that has a span
 * here has been traced by the instrumentation of another node.
 */
const spans = new WeakMap<ChangeEvent, Span>();

export const spanOf = (event: ChangeEvent): Span | undefined => spans.get(event);

/** Traces the events of an input. Returns a function that ends the tracing. */
export function traceEvents(tracer: Tracer, input: InstrumentedInput, meter: EventMeter): () => void {
  const open = new Map<ChangeEvent, OpenSpan>();
  const bySequence = new Map<string, OpenSpan>();

  function end({ event, span, began }: OpenSpan, failure: { readonly error: unknown } | null): void {
    if (!open.delete(event)) return;
    if (event.sequence !== null) bySequence.delete(event.sequence);
    const errorType = failure && errorTypeOf(failure.error);
    if (failure) {
      const error = failure.error instanceof Error ? failure.error : new Error(String(failure.error));
      span.recordException(error);
      span.setAttribute('error.type', errorType!);
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    }
    span.end();
    meter.onEnd(event, (performance.now() - began) / 1000, errorType);
  }

  function onHandOut({ input: id, event }: DiagnosticsMessages['dapper-postgres-input:hand-out']): void {
    if (id !== input.id || spans.has(event)) return;
    const attributes = {
      ...sharedAttributes(event),
      'messaging.operation.type': 'process',
      ...(event.sequence !== null && { 'messaging.message.id': event.sequence }),
      [`messaging.${SYSTEM}.operation`]: event.operation,
      [`messaging.${SYSTEM}.attempt`]: event.attempt,
    };
    const span = tracer.startSpan(
      `process ${event.location}`,
      { kind: SpanKind.CONSUMER, attributes, links: linksOf(event.context), root: true },
      ROOT_CONTEXT,
    );
    spans.set(event, span);
    const opened: OpenSpan = { event, span, began: performance.now(), isProcessed: false };
    open.set(event, opened);
    if (event.sequence === null) {
      // Nobody acknowledges an event that was announced by hand. A handler of process() begins in the same turn.
      queueMicrotask(() => {
        if (!opened.isProcessed) end(opened, null);
      });
    } else {
      const earlier = bySequence.get(event.sequence);
      if (earlier && !earlier.isProcessed) end(earlier, { error: notAcknowledged() });
      bySequence.set(event.sequence, opened);
    }
    meter.onHandOut(event);
  }

  function onStart(message: ProcessMessage): void {
    const opened = open.get(message.event);
    if (!opened) return;
    opened.isProcessed = true;
    const active = trace.setSpan(ROOT_CONTEXT, opened.span);
    const { around = (handler) => handler() } = message;
    message.around = (handler) => context.with(active, () => around(handler));
  }

  function onAsyncEnd(message: ProcessMessage): void {
    const opened = open.get(message.event);
    if (opened) end(opened, 'error' in message ? { error: message.error } : null);
  }

  /** What happens to an event of handle(). The span of an event in a handler ends with the handler. */
  function settle(sequence: string | null, failure: { readonly error: unknown } | null): void {
    const opened = sequence === null ? undefined : bySequence.get(sequence);
    if (opened && !opened.isProcessed) end(opened, failure);
  }
  const onAcknowledge = ({
    input: id,
    sequence,
  }: DiagnosticsMessages['dapper-postgres-input:acknowledge']): void => {
    if (id === input.id) settle(sequence, null);
  };
  const onFailure = ({ sequence, error }: FailedEvent): void => settle(sequence, { error });

  function onLease({ input: id, state }: DiagnosticsMessages['dapper-postgres-input:lease']): void {
    if (id !== input.id || state === 'claimed') return;
    for (const opened of open.values()) if (!opened.isProcessed) end(opened, { error: notAcknowledged() });
  }

  const endings = [
    listen('dapper-postgres-input:hand-out', onHandOut),
    listen('tracing:dapper-postgres-input:process:start', onStart),
    listen('tracing:dapper-postgres-input:process:asyncEnd', onAsyncEnd),
    listen('dapper-postgres-input:acknowledge', onAcknowledge),
    listen('dapper-postgres-input:lease', onLease),
  ];
  input.on('retrying', onFailure).on('parked', onFailure);
  return () => {
    for (const stop of endings) stop();
    input.off('retrying', onFailure).off('parked', onFailure);
    for (const opened of open.values()) opened.span.end();
    open.clear();
    bySequence.clear();
  };
}

/** Returns a function that ends the listening. */
function listen<Message>(channel: string, listener: (message: Message) => void): () => void {
  const take = (message: unknown) => listener(message as Message);
  subscribe(channel, take);
  return () => void unsubscribe(channel, take);
}

/** An event that was in hand when its term ended comes again. */
const notAcknowledged = (): Error =>
  Object.assign(new Error('the event was not acknowledged, and comes again'), { code: 'not_acknowledged' });

/** https://www.w3.org/TR/trace-context/: other versions than 00 may have more behind the flags. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:$|-)/;

/** A link to the span that wrote the change, if the transaction's `context` names one. */
function linksOf(tagged: unknown): Link[] {
  if (typeof tagged !== 'object' || tagged === null) return [];
  const { traceparent, tracestate } = tagged as { traceparent?: unknown; tracestate?: unknown };
  const match = typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;
  if (!match) return [];
  const spanContext = {
    traceId: match[1]!,
    spanId: match[2]!,
    traceFlags: Number.parseInt(match[3]!, 16),
    isRemote: true,
    ...(typeof tracestate === 'string' && { traceState: createTraceState(tracestate) }),
  };
  return isSpanContextValid(spanContext) ? [{ context: spanContext }] : [];
}
