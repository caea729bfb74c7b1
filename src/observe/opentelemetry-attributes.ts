/** How events are described to OpenTelemetry. */
import type { Attributes } from '@opentelemetry/api';
import type { ChangeEvent } from '../api/change-event.ts';

/** The conventions want attributes of one system below `messaging.` and the system's name. */
export const SYSTEM = 'dapper_postgres_input';

/**
 * What spans and metrics share, all of it of few values: the table is the destination, and the input is the consumer group, because every input of
 * a database gets the changes of a table once.
 */
export const sharedAttributes = ({ location, trigger }: ChangeEvent): Attributes => ({
  'messaging.system': SYSTEM,
  'messaging.operation.name': 'process',
  'messaging.destination.name': location,
  'messaging.consumer.group.name': trigger,
});

/** Of few values: the code of an error, or the name of its class. */
export function errorTypeOf(error: unknown): string {
  if (!(error instanceof Error)) return '_OTHER';
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && code !== '' ? code : error.name;
}
