/**
 * The channels of `node:diagnostics_channel`, every name in one place; `api/diagnostics.ts` has their messages.
 *
 * Where nobody has subscribed, publishing costs one look at `hasSubscribers`, which the caller takes before it builds a message.
 */
import { type TracingChannel, channel, tracingChannel } from 'node:diagnostics_channel';
import type { DiagnosticsMessages, ProcessMessage } from '../api/diagnostics.ts';

interface TypedChannel<Message> {
  readonly hasSubscribers: boolean;
  publish(message: Message): void;
}

const typed = <Name extends keyof DiagnosticsMessages>(name: Name): TypedChannel<DiagnosticsMessages[Name]> =>
  channel(name);

const processing: TracingChannel<unknown, ProcessMessage> = tracingChannel('dapper-postgres-input:process');

export const channels = {
  handOut: typed('dapper-postgres-input:hand-out'),
  acknowledge: typed('dapper-postgres-input:acknowledge'),
  lease: typed('dapper-postgres-input:lease'),
  reader: typed('dapper-postgres-input:reader'),
  process: processing,
} as const;
