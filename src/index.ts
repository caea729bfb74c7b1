export type { ChangeEvent } from './capture/change.ts';
export type { HandleOptions, LeaseSettings, PostgresInputOptions } from './config/settings.ts';
export { type ErrorCode, PostgresInputError } from './api/errors.ts';
export type { Installation } from './schema/install.ts';
export type { LifecycleEvents } from './api/lifecycle-events.ts';
export {
  type Event,
  type Input,
  type InputConfig,
  type NewInputFunc,
  type Operation,
  parseOperation,
} from './api/orchestrator.ts';
export { PostgresInput, newPostgresInput } from './postgres-input.ts';
export type { InputState, InputStatus } from './node/status.ts';
export type { UnwatchableTable } from './schema/tables.ts';
