import { randomUUID } from 'node:crypto';
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';

/** An event in the JSON format of CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md). */
export interface CloudEvent {
  /** The version of the format. */
  specversion: '1.0';
  /** Unique for the source: the event's `sequence`. A notification that was sent by hand has none, and gets a random id. */
  id: string;
  /** The URI reference that `toCloudEvent` was given. */
  source: string;
  /** `dapper-postgres-input.create`, `.read`, `.update`, `.delete` or `.unknown`. */
  type: string;
  /** The table and the row's id: `orders/44528862`. Control characters are escaped, as in every attribute. */
  subject: string;
  /** When the change was written. */
  time?: string;
  /** The media type of `data`. */
  datacontenttype: 'application/json';
  /** The event without the fields that stand outside of `data`. */
  data: Pick<
    ChangeEvent,
    | 'location'
    | 'operation'
    | 'id'
    | 'key'
    | 'before'
    | 'after'
    | 'changed'
    | 'dataOmitted'
    | 'transaction'
    | 'origin'
    | 'context'
  >;
  /** Events with one key are of one row, and their order matters (extension "partitioning"). */
  partitionkey: string;
  /** From the member of that name of the event's `context` (extension "distributed tracing"). */
  traceparent?: string;
  /** The same for `tracestate`, if there is a `traceparent`. */
  tracestate?: string;
}

/**
 * The event as a CloudEvent, for whoever feeds consumers of these.
 * @param source where it comes from: a URI reference that names the database, such as `/databases/sales`
 * @throws {PostgresInputError} ERR_CONFIG_INVALID without a source, which the format requires
 */
export function toCloudEvent(event: ChangeEvent, source: string): CloudEvent {
  const { location, operation, id, key, before, after, changed, dataOmitted, transaction, origin, context } =
    event;
  if (!isText(source)) {
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      'a CloudEvent needs a source: a URI reference that names the database, such as /databases/sales',
    );
  }
  const { traceparent, tracestate } = tracing(context);
  return {
    specversion: '1.0',
    id: event.sequence ?? randomUUID(),
    source,
    type: `dapper-postgres-input.${operation}`,
    subject: allowed(`${location}/${id}`),
    ...(event.occurredAt !== null && { time: event.occurredAt }),
    datacontenttype: 'application/json',
    data: { location, operation, id, key, before, after, changed, dataOmitted, transaction, origin, context },
    partitionkey: allowed(JSON.stringify([location, key ?? id])),
    ...(isText(traceparent) && { traceparent: allowed(traceparent) }),
    ...(isText(traceparent) && isText(tracestate) && { tracestate: allowed(tracestate) }),
  };
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** The characters that no attribute may have are written as JSON writes them. */
const allowed = (text: string): string =>
  text.replaceAll(
    /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/gu,
    (character) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`,
  );

const tracing = (context: unknown): { traceparent?: unknown; tracestate?: unknown } =>
  typeof context === 'object' && context !== null ? context : {};
