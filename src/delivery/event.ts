import type { ChangeEvent } from '../api/change-event.ts';
import type { Change } from '../capture/change.ts';
import { publicSequence } from '../schema/log-layout.ts';
import { type Decoder, NO_DATA } from './row-decoder.ts';

/**
 * Makes the event of a change, when it is handed out: under which input's id and by which holder of the lease. `decoder` is null for whoever
 * wants no data.
 */
export function eventOf(
  change: Change,
  trigger: string,
  fencingToken: string | null,
  decoder: Decoder | null,
  attempt = 1,
): ChangeEvent {
  // To spread what is decoded would take twice as long as to name it.
  const data = change.shape === null || decoder === null ? NO_DATA : decoder.decode(change);
  return {
    location: change.location,
    operation: change.operation,
    id: change.id,
    trigger,
    sequence: change.sequence === null ? null : publicSequence(change.sequence, change.stamp),
    key: typeof change.key === 'string' ? { [change.key]: change.id } : change.key && { ...change.key },
    occurredAt: change.occurredAt,
    before: data.before,
    after: data.after,
    changed: data.changed,
    dataOmitted: data.dataOmitted,
    transaction: change.transaction,
    origin: change.details?.origin ?? null,
    context: contextOf(change),
    attempt,
    fencingToken,
  };
}

/** Anybody can set the setting to anything. */
function contextOf({ details }: Change): unknown {
  const context = details?.context ?? null;
  if (context === null) return null;
  try {
    return JSON.parse(context) as unknown;
  } catch {
    return context;
  }
}
