export { type TestInputOptions, TestInput, newTestInput } from './testing/test-input.ts';
export type { EmittedEvent } from './testing/emitted-change.ts';
