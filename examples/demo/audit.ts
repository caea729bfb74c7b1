/** Compares what the application has committed with what the replicas have reported. */
import type { ChangeEvent } from 'dapper-postgres-input';
import type { Written } from './sales.ts';

export interface Result {
  readonly delivered: number;
  readonly lost: number;
  /** Changes that nobody committed. */
  readonly invented: number;
  /** Rows whose changes came in another order than they were made in. */
  readonly disordered: number;
  /** What came a second time, as it had come the first time. */
  readonly repeated: readonly ChangeEvent[];
}

export function audit(written: readonly Written[], received: readonly ChangeEvent[], schema: string): Result {
  const made = new Map<string, string[]>();
  for (const { table, id, operation } of written) append(made, `${schema}.${table} ${id}`, operation);

  const came = new Map<string, string[]>();
  const first = new Map<string, ChangeEvent>();
  const repeated: ChangeEvent[] = [];
  for (const event of inOrderOfDelivery(received)) {
    const before = first.get(event.sequence!);
    if (before) {
      repeated.push(before);
    } else {
      first.set(event.sequence!, event);
      append(came, `${event.location} ${event.id}`, event.operation);
    }
  }

  let [lost, invented, disordered] = [0, 0, 0];
  for (const row of new Set([...made.keys(), ...came.keys()])) {
    const [wanted, actual] = [made.get(row) ?? [], came.get(row) ?? []];
    const [missing, extra] = [without(wanted, actual).length, without(actual, wanted).length];
    lost += missing;
    invented += extra;
    if (missing + extra === 0 && wanted.join() !== actual.join()) disordered++;
  }
  return { delivered: written.length - lost, lost, invented, disordered, repeated };
}

/** Whether these are the last events that were handed out under that token. */
export function areLastOf(
  token: string | undefined,
  events: readonly ChangeEvent[],
  received: readonly ChangeEvent[],
): boolean {
  const handedOut = received.filter(({ fencingToken }) => fencingToken === token);
  const last = new Set(handedOut.slice(handedOut.length - events.length));
  return events.every((event) => last.has(event));
}

/** Reports of different processes overtake each other on their way here; the fencing token tells who came later. */
const inOrderOfDelivery = (received: readonly ChangeEvent[]): ChangeEvent[] =>
  received.toSorted((a, b) => Number(BigInt(a.fencingToken!) - BigInt(b.fencingToken!)));

function append(rows: Map<string, string[]>, row: string, operation: string): void {
  const operations = rows.get(row);
  if (operations) operations.push(operation);
  else rows.set(row, [operation]);
}

/** What is left of `these` when each of `those` has taken one away. */
function without(these: readonly string[], those: readonly string[]): string[] {
  const left = [...these];
  for (const one of those) {
    const at = left.indexOf(one);
    if (at >= 0) left.splice(at, 1);
  }
  return left;
}
