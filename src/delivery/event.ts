import type { ChangeEvent } from '../api/change-event.ts';
import type { Change } from '../capture/change.ts';

/** Makes the event of a change, when it is handed out: under which input's id and by which holder of the lease. */
export const eventOf = (change: Change, trigger: string, fencingToken: string | null): ChangeEvent => ({
  location: change.location,
  operation: change.operation,
  id: change.id,
  trigger,
  sequence: change.sequence === null ? null : change.sequence + change.stamp,
  key: typeof change.key === 'string' ? { [change.key]: change.id } : change.key,
  occurredAt: change.occurredAt,
  transaction: change.transaction,
  fencingToken,
});
