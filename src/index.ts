/**
 * Everything that a program imports from `dapper-postgres-input`.
 * @module dapper-postgres-input
 */
export type { Backfill, BackfillOptions, BackfillProgress } from './api/backfill.ts';
export type {
  AnyTables,
  ChangeEvent,
  ParkedEvent,
  Row,
  RowChange,
  RowsByLocation,
} from './api/change-event.ts';
export type { DiagnosticsMessages, ProcessMessage } from './api/diagnostics.ts';
export type {
  HandleOptions,
  NackOptions,
  ProcessOptions,
  LeaseSettings,
  Logger,
  PostgresInputConfig,
  PostgresInputOptions,
  TableOptions,
  Tags,
  TypeParsers,
} from './api/options.ts';
export type {
  Installation,
  OptionDifference,
  UnmatchedPattern,
  UnwatchableTable,
} from './api/installation.ts';
export type { Health, HealthCheck, InputState, InputStatus, Metrics } from './api/status.ts';
export { type ErrorCode, PostgresInputError, type PostgresInputErrorOptions } from './api/errors.ts';
export type { FailedEvent, LifecycleEvents } from './api/lifecycle-events.ts';
export {
  type Event,
  type Input,
  type InputConfig,
  type NewInputFunc,
  type Operation,
  parseOperation,
} from './api/orchestrator.ts';
export { type CloudEvent, toCloudEvent } from './formats/cloud-event.ts';
export { type DebeziumMessage, toDebezium } from './formats/debezium.ts';
export { PostgresInput, newPostgresInput } from './postgres-input.ts';
