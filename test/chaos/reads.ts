/**
 * Judges the rows that backfills have read. Each `read` has its row's version, and is checked against what came before and after:
 *
 * - It is not older than any event of its key that came before it, in any term: the snapshot that it is from is younger than all of these.
 * - No change comes behind it for the first time that it has in it already.
 * - A replica that applies every event which is newer than what it has equals the table.
 * - A backfill that is done has read every row that was there all the time, each under one sequence.
 */
import type { AskedBackfill } from './backfills.ts';
import { bySize, isTruncation } from './events.ts';
import type { Change } from './model.ts';
import type { Accuse, Delivery, Evidence } from './oracle.ts';
import { wentBack } from './rewound.ts';
import type { ChaosTable, Row } from './tables.ts';

/** The digits of a backfill's number, and those of a row. */
const [BACKFILL_DIGITS, ROW_DIGITS] = [19, 29];

export const isRead = (sequence: string): boolean => sequence.length === BACKFILL_DIGITS + ROW_DIGITS;

const rowOf = ({ event }: Delivery): Row => event.after as unknown as Row;
const keyOf = ({ location }: ChaosTable, { r, g }: Row): string => `${location} ${r}/${g}`;

export interface ReadsEvidence {
  readonly deliveries: readonly Delivery[];
  /** The change of each sequence. */
  readonly matched: ReadonlyMap<string, Change>;
  readonly evidence: Evidence;
  readonly isBefore: (a: Delivery, b: Delivery) => boolean;
  readonly describe: (delivery: Delivery) => string;
  readonly wasRejected: (delivery: Delivery) => boolean;
}

interface Step {
  readonly delivery: Delivery;
  readonly place: number;
  readonly isRead: boolean;
}

export function checkReads(
  { deliveries, matched, evidence, isBefore, describe, wasRejected }: ReadsEvidence,
  accuse: Accuse,
): void {
  const tables = new Map(evidence.tables.map(({ table }) => [table.location, table]));
  const atOnce = new Set(
    evidence.nodes.filter(({ consumer }) => consumer.startsWith('process')).map(({ name }) => name),
  );
  const steps = new Map<string, Step[]>();
  /** A replica that applies to each key what is newer than what is there. */
  const newest = new Map<string, Step>();
  /** The last truncation of each table: what it has removed may come again. */
  const truncations = new Map<string, Delivery>();
  const sequences = new Map<string, Set<string>>();
  const last = new Map<string, Delivery>();
  const inOrder = deliveries.toSorted((a, b) => (isBefore(a, b) ? -1 : 1));
  for (const delivery of inOrder) {
    const { sequence, location, after } = delivery.event;
    const change = matched.get(sequence!);
    const read = isRead(sequence!);
    const table = tables.get(location);
    if (!table || (!read && !change)) continue;
    if (isTruncation(delivery.event)) {
      truncations.set(location, delivery);
      for (const [key, { delivery: of }] of newest) if (of.event.location === location) newest.delete(key);
      continue;
    }
    if (read && !after) {
      accuse('a read has its row', describe(delivery));
      continue;
    }
    const row = read ? rowOf(delivery) : change!.row;
    const key = keyOf(table, row);
    if (read) {
      const { id, key: identity } = table.identity(row);
      if (delivery.event.id !== id || JSON.stringify(delivery.event.key) !== JSON.stringify(identity))
        accuse('an event says what happened', JSON.stringify(delivery.event));
      const before = last.get(sequence!);
      if (before?.token === delivery.token && !wasRejected(before))
        accuse('no read comes twice in one term', describe(delivery));
      last.set(sequence!, delivery);
      const named = `${sequence!.slice(0, BACKFILL_DIGITS)} ${key}`;
      sequences.set(named, (sequences.get(named) ?? new Set()).add(sequence!));
    }
    if (!table.tellsRowsApart) continue;
    const step = { delivery, place: read ? row.v : change!.place, isRead: read };
    const replica = newest.get(key);
    const truncation = truncations.get(location);
    const isGone = !read && truncation && bySize(sequence!, truncation.event.sequence!) < 0;
    if (!isGone && (!replica || step.place >= replica.place)) newest.set(key, step);
    // Where there is no key, process() keeps no order among the versions of a row.
    if (table.identity(row).key === null && atOnce.has(delivery.node)) continue;
    const known = steps.get(key);
    if (known) known.push(step);
    else steps.set(key, [step]);
  }
  for (const all of steps.values()) checkKey(all, evidence, describe, accuse);
  for (const [named, found] of sequences) {
    const table = [...tables.values()].find(({ location }) => named.includes(` ${location} `));
    if (found.size > 1 && table?.canChangeKey)
      accuse('a backfill reads a row once', `${named}: ${[...found].join()}`);
  }
  checkReplica(newest, evidence, describe, accuse);
  const found = new Map<string, Set<string>>();
  for (const delivery of inOrder) {
    const { sequence, location } = delivery.event;
    if (!isRead(sequence!) || !delivery.event.after) continue;
    const backfill = String(BigInt(sequence!.slice(0, BACKFILL_DIGITS)));
    found.set(
      backfill,
      (found.get(backfill) ?? new Set()).add(keyOf(tables.get(location)!, rowOf(delivery))),
    );
  }
  const parked = new Set(evidence.parked.map(({ sequence }) => sequence));
  for (const asked of evidence.backfills)
    checkComplete(asked, found.get(asked.id) ?? new Set(), deliveries, evidence, parked, accuse);
}

function checkKey(
  steps: readonly Step[],
  evidence: Evidence,
  describe: (delivery: Delivery) => string,
  accuse: Accuse,
): void {
  let newest: Step | null = null;
  let read: Step | null = null;
  const seen = new Set<string>();
  for (const step of steps) {
    const { delivery, place } = step;
    const since = (other: Step) => wentBack(evidence, other.delivery.at, delivery.at);
    if (newest && since(newest)) newest = null;
    if (read && since(read)) read = null;
    if (step.isRead) {
      if (newest && place < newest.place)
        accuse(
          'a read is not older than what came before',
          `version ${place}: ${describe(delivery)}, after ${newest.place}: ${describe(newest.delivery)}`,
        );
      if (!read || place > read.place) read = step;
    } else if (read && place <= read.place && !seen.has(delivery.event.sequence!)) {
      accuse(
        'what comes after a read is newer',
        `version ${place}: ${describe(delivery)}, after ${read.place}: ${describe(read.delivery)}`,
      );
    }
    seen.add(delivery.event.sequence!);
    if (!newest || place >= newest.place) newest = step;
  }
}

function checkReplica(
  replica: ReadonlyMap<string, Step>,
  evidence: Evidence,
  describe: (delivery: Delivery) => string,
  accuse: Accuse,
): void {
  // What was lost with the server stays in the replica.
  if (evidence.rewinds.length > 0) return;
  const rows = new Map<string, Row>();
  for (const { table, rows: found } of evidence.tables)
    for (const row of found) rows.set(keyOf(table, row), row);
  for (const [key, newest] of replica) {
    const version = newest.delivery.event.operation === 'delete' ? undefined : newest.place;
    if (rows.get(key)?.v !== version)
      accuse(
        'a replica equals the table',
        `${key} has version ${rows.get(key)?.v}, and in the replica ${version}: ${describe(newest.delivery)}`,
      );
  }
}

function checkComplete(
  { id, table, rows, at, isDone, isLost }: AskedBackfill,
  found: ReadonlySet<string>,
  deliveries: readonly Delivery[],
  evidence: Evidence,
  parked: ReadonlySet<string>,
  accuse: Accuse,
): void {
  if (!isDone || isLost || wentBack(evidence, at, Infinity)) return;
  const stayed = new Set(
    evidence.tables.find((one) => one.table === table)!.rows.map((row) => keyOf(table, row)),
  );
  const deleted = new Set(
    evidence.transactions.flatMap(({ changes }) =>
      changes.flatMap((change) =>
        change.table === table && change.operation === 'delete' ? keyOf(table, change.row) : [],
      ),
    ),
  );
  // A row without a key may move before the place that is read next: then its update has come.
  const updated = new Set(
    table.canChangeKey
      ? []
      : deliveries.flatMap(({ event }) =>
          event.location === table.location && !isRead(event.sequence!) && event.after
            ? keyOf(table, event.after as unknown as Row)
            : [],
        ),
  );
  // A read that was parked after deaths alone need not have been handed out whole.
  if (
    [...parked].some(
      (sequence) => isRead(sequence) && BigInt(sequence.slice(0, BACKFILL_DIGITS)) === BigInt(id),
    )
  )
    return;
  const missing = rows
    .map((row) => keyOf(table, row))
    .filter((key) => stayed.has(key) && !deleted.has(key) && !found.has(key) && !updated.has(key));
  if (missing.length > 0)
    accuse(
      'a backfill leaves no row out',
      `${id}: ${missing.length} of ${rows.length}: ${missing.slice(0, 5).join(', ')}`,
    );
}
