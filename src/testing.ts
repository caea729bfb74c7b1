/** The entry `dapper-postgres-input/testing`: an input without a database, for tests of handlers. */
export { type TestInputOptions, TestInput, newTestInput } from './testing/test-input.ts';
export type { EmittedEvent } from './testing/emitted-change.ts';
