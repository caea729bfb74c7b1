import type { ChangeEvent, Row } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Operation } from '../api/orchestrator.ts';

/** A message as Debezium's connector for PostgreSQL writes it, without the schemas. */
export interface DebeziumMessage {
  /** The row's primary key; null where there is none. */
  key: Record<string, string> | null;
  /** https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events */
  value: {
    before: Row | null;
    after: Row | null;
    source: {
      version: string;
      connector: 'postgresql';
      /** The input's id stands for the name of the server. */
      name: string;
      /** When the change was written, in milliseconds and in microseconds since 1970. */
      ts_ms: number | null;
      ts_us: number | null;
      /** Whether it is a row that was there before. */
      snapshot: 'true' | 'false';
      db: string;
      schema: string;
      table: string;
      txId: number | null;
      /** The event's `sequence`. */
      sequence: string | null;
      /** No replication slot is read. */
      lsn: null;
      xmin: null;
    };
    transaction: null;
    op: 'c' | 'r' | 'u' | 'd' | 't';
    ts_ms: number | null;
    ts_us: number | null;
  };
}

const OPERATIONS: Readonly<Partial<Record<Operation, 'c' | 'r' | 'u' | 'd'>>> = {
  create: 'c',
  read: 'r',
  update: 'u',
  delete: 'd',
};

/**
 * The event as a message of Debezium, for whoever feeds consumers of these. Values are those of the event: Debezium's own encodings of
 * dates, numerics and the like depend on the settings of its connector.
 * @param db the name of the database, which an event does not know. Default: an empty text
 * @throws {PostgresInputError} ERR_CONFIG_INVALID for an event whose operation is unknown, which somebody announced by hand
 */
export function toDebezium(event: ChangeEvent, db = ''): DebeziumMessage {
  const { location, operation, id, key, before, after, occurredAt, transaction } = event;
  const isTruncation = operation === 'delete' && id === '*' && key === null;
  const op = isTruncation ? 't' : OPERATIONS[operation];
  if (op === undefined) {
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      `an event of ${location} with the operation ${operation} has no form in Debezium: leave it out, or set foreignNotifications to 'ignore'`,
    );
  }
  const dot = location.indexOf('.');
  const time = {
    ts_ms: occurredAt === null ? null : Date.parse(occurredAt),
    ts_us: occurredAt === null ? null : microseconds(occurredAt),
  };
  return {
    key,
    value: {
      before,
      after,
      source: {
        version: 'dapper-postgres-input',
        connector: 'postgresql',
        name: event.trigger,
        ...time,
        snapshot: operation === 'read' ? 'true' : 'false',
        db,
        schema: dot === -1 ? 'public' : location.slice(0, dot),
        table: location.slice(dot + 1),
        txId: transaction === null ? null : Number(transaction),
        sequence: event.sequence,
        lsn: null,
        xmin: null,
      },
      transaction: null,
      op,
      ...time,
    },
  };
}

/** Of a time as events have it: ISO 8601, UTC, with up to six digits of a second. */
function microseconds(time: string): number {
  const seconds = Date.parse(`${time.slice(0, 19)}Z`) / 1000;
  return Number(`${seconds}${time.slice(20, -1).padEnd(6, '0')}`);
}
