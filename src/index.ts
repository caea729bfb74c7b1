export type { ChangeEvent } from './change.ts';
export type { HandleOptions, LeaseSettings, PostgresInputOptions } from './config.ts';
export { type ErrorCode, PostgresInputError } from './errors.ts';
export type { Installation } from './install.ts';
export type { LifecycleEvents } from './lifecycle.ts';
export {
  type Event,
  type Input,
  type InputConfig,
  type NewInputFunc,
  type Operation,
  parseOperation,
} from './orchestrator.ts';
export { PostgresInput, newPostgresInput } from './postgres-input.ts';
export type { InputState, InputStatus } from './status.ts';
export type { UnwatchableTable } from './tables.ts';
