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
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
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
import { messageOf } from '../api/errors.ts';
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

interface Failure {
  readonly error: unknown;
}

type HandOut = DiagnosticsMessages['dapper-postgres-input:hand-out'];
type Acknowledge = DiagnosticsMessages['dapper-postgres-input:acknowledge'];
type Lease = DiagnosticsMessages['dapper-postgres-input:lease'];

/**
 * The channels name an input by its id, and a process may have several nodes of one input. So an event that has a span
 * here has been traced by the instrumentation of another node.
 */
const spans = new WeakMap<ChangeEvent, Span>();

export const spanOf = (event: ChangeEvent): Span | undefined => spans.get(event);

/** Traces the events of an input, until `end`. */
export class EventTraces {
  /** Those that have not ended. */
  static readonly #all = new Set<EventTraces>();
  readonly #tracer: Tracer;
  readonly #input: InstrumentedInput;
  readonly #meter: EventMeter;
  readonly #open = new Map<ChangeEvent, OpenSpan>();
  readonly #bySequence = new Map<string, OpenSpan>();
  readonly #endings: readonly (() => void)[];

  constructor(tracer: Tracer, input: InstrumentedInput, meter: EventMeter) {
    this.#tracer = tracer;
    this.#input = input;
    this.#meter = meter;
    const { id } = input;
    this.#endings = [
      listen<HandOut>('dapper-postgres-input:hand-out', (message) => {
        if (message.input === id) this.#onHandOut(message.event);
      }),
      listen<ProcessMessage>('tracing:dapper-postgres-input:process:start', (message) =>
        this.#onStart(message),
      ),
      listen<ProcessMessage>('tracing:dapper-postgres-input:process:asyncEnd', (message) =>
        this.#onAsyncEnd(message),
      ),
      listen<Acknowledge>('dapper-postgres-input:acknowledge', (message) => {
        if (message.input === id) this.#settle(message.sequence, null);
      }),
      listen<Lease>('dapper-postgres-input:lease', (message) => {
        if (message.input === id && message.state !== 'claimed') this.#onTermEnd(message.fencingToken);
      }),
    ];
    input.on('retrying', this.#onFailure).on('parked', this.#onFailure);
    EventTraces.#all.add(this);
  }

  /** Ends the spans that are open, and makes no more. */
  end(): void {
    EventTraces.#all.delete(this);
    for (const stop of this.#endings) stop();
    this.#input.off('retrying', this.#onFailure).off('parked', this.#onFailure);
    for (const { span } of this.#open.values()) span.end();
    this.#open.clear();
    this.#bySequence.clear();
  }

  #onHandOut(event: ChangeEvent): void {
    if (spans.has(event)) return;
    const { sequence } = event;
    const attributes = {
      ...sharedAttributes(event),
      'messaging.operation.type': 'process',
      ...(sequence !== null && { 'messaging.message.id': sequence }),
      [`messaging.${SYSTEM}.operation`]: event.operation,
      [`messaging.${SYSTEM}.attempt`]: event.attempt,
    };
    const span = this.#tracer.startSpan(
      `process ${event.location}`,
      { kind: SpanKind.CONSUMER, attributes, links: linksOf(event.context), root: true },
      ROOT_CONTEXT,
    );
    spans.set(event, span);
    const opened: OpenSpan = { event, span, began: performance.now(), isProcessed: false };
    this.#open.set(event, opened);
    this.#meter.onHandOut(event);
    if (sequence === null) {
      // Nobody acknowledges an event that was announced by hand. A handler of process() begins in the same turn.
      queueMicrotask(() => {
        if (!opened.isProcessed) this.#end(opened, null);
      });
      return;
    }
    this.#settle(sequence, { error: notAcknowledged() });
    this.#bySequence.set(sequence, opened);
  }

  #onStart(message: ProcessMessage): void {
    const opened = this.#open.get(message.event);
    if (!opened) return;
    opened.isProcessed = true;
    const active = trace.setSpan(ROOT_CONTEXT, opened.span);
    const { around = (handler) => handler() } = message;
    message.around = (handler) => context.with(active, () => around(handler));
  }

  #onAsyncEnd(message: ProcessMessage): void {
    const opened = this.#open.get(message.event);
    if (opened) this.#end(opened, 'error' in message ? { error: message.error } : null);
  }

  /** The event may have its span here or at another node's instrumentation. */
  readonly #onFailure = ({ sequence, error }: FailedEvent): void => {
    for (const traces of EventTraces.#all)
      if (traces.#input.id === this.#input.id) traces.#settle(sequence, { error });
  };

  /** What happens to an event of handle(). The span of an event in a handler ends with the handler. */
  #settle(sequence: string | null, failure: Failure | null): void {
    const opened = sequence === null ? undefined : this.#bySequence.get(sequence);
    if (opened && !opened.isProcessed) this.#end(opened, failure);
  }

  /** An input of the same id may have nodes on other databases, and this node's next term may have begun. */
  #onTermEnd(fencingToken: string): void {
    for (const opened of this.#open.values())
      if (!opened.isProcessed && opened.event.fencingToken === fencingToken)
        this.#end(opened, { error: notAcknowledged() });
  }

  #end(opened: OpenSpan, failure: Failure | null): void {
    const { event, span, began } = opened;
    if (!this.#open.delete(event)) return;
    // The next term may have handed the same change out while a handler of the last one was running.
    if (event.sequence !== null && this.#bySequence.get(event.sequence) === opened)
      this.#bySequence.delete(event.sequence);
    const errorType = failure && errorTypeOf(failure.error);
    if (failure) {
      const error = failure.error instanceof Error ? failure.error : new Error(messageOf(failure.error));
      span.recordException(error);
      span.setAttribute('error.type', errorType!);
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    }
    span.end();
    this.#meter.onEnd(event, (performance.now() - began) / 1000, errorType);
  }
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
