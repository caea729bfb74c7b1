/**
 * Judges a run: compares what the writers know to be committed with what the nodes have told, and both with what the
 * witnesses in the database have seen. It knows the guarantees and nothing of how they are kept.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ChangeEvent } from '../../src/index.ts';
import type { Exit } from '../support/processes.ts';
import type { AskedBackfill } from './backfills.ts';
import type { Mishap } from './cluster.ts';
import { bySize, isTruncation } from './events.ts';
import type { Change, Transaction } from './model.ts';
import { ATTEMPTS, type ConsumerKind, type Report } from './protocol.ts';
import { checkReads, isRead } from './reads.ts';
import { allClaims, checkClaims, mayBeUnacknowledged, mayBeUndone, survivors, wentBack } from './rewound.ts';
import type { Rewind } from './server-faults.ts';
import type { ChaosTable, Row } from './tables.ts';
import type { Acknowledgement, Booking, Claim, Parked } from './witness.ts';

export interface Evidence {
  readonly transactions: readonly Transaction[];
  /** The transactions whose mark is in the database. */
  readonly marks: ReadonlySet<string>;
  readonly nodes: readonly {
    readonly name: string;
    readonly consumer: ConsumerKind;
    readonly reports: readonly Report[];
    readonly mishaps: readonly Mishap[];
    readonly exit: Exit;
  }[];
  readonly claims: readonly Claim[];
  readonly acknowledgements: readonly Acknowledgement[];
  readonly bookings: readonly Booking[];
  readonly parked: readonly Parked[];
  readonly backfills: readonly AskedBackfill[];
  /** All tables, with the rows that they have in the end. */
  readonly tables: readonly { readonly table: ChaosTable; readonly rows: readonly Row[] }[];
  /** In the order in which they happened. */
  readonly rewinds: readonly Rewind[];
  /** When the database's clock was set. */
  readonly clockSet: readonly number[];
  /** Changes that are still in the log. */
  readonly leftOver: number;
  /** How long after its end a mishap may still show, and how long a stall must be to be one; milliseconds. */
  readonly aftermath: number;
  readonly harmfulStall: number;
  /** Changes that were not handed out although nothing kept them back. */
  readonly stuck: readonly string[];
  readonly trigger: string;
}

export interface Verdict {
  /** Per broken rule, what broke it. */
  readonly violations: Map<string, string[]>;
  readonly counts: Record<string, number>;
}

export interface Delivery {
  readonly node: string;
  readonly token: bigint;
  /** Its place among all that this node handed out. */
  readonly index: number;
  readonly at: number;
  readonly event: ChangeEvent;
}

/** The time between two claims, in which one node holds the lease. */
interface Term extends Claim {
  /** When the next node had the lease. */
  readonly to: number;
  /** How that node came by it. */
  readonly lostBy: Claim['wonBy'] | null;
}

export function judge(evidence: Evidence): Verdict {
  const violations = new Map<string, string[]>();
  const counts: Record<string, number> = {};
  const accuse = (rule: string, what: string) =>
    void violations.set(rule, [...(violations.get(rule) ?? []), what]);
  const count = (what: string, by = 1) => void (counts[what] = (counts[what] ?? 0) + by);

  const all = deliveriesOf(evidence);
  const deliveries = all.filter(({ event }) => !isRead(event.sequence!));
  const bySequence = groupBy(deliveries, ({ event }) => event.sequence!);
  const allBySequence = groupBy(all, ({ event }) => event.sequence!);
  const { expected, undone } = expectedChanges(evidence, accuse);
  const isSurvivor = survivors(evidence);
  const lost = [...bySequence.keys()].filter((sequence) => !isSurvivor(sequence));
  const matched = matchAll(bySequence, isSurvivor, expected, undone, accuse);
  const terms = termsOf(allClaims(evidence));
  const suffered = sufferings(evidence);

  checkContent(bySequence, matched, evidence.trigger, accuse);
  checkClaims(evidence, accuse);
  checkTokens(all, terms, accuse);
  checkOrder(deliveries, bySequence, matched, evidence, accuse);
  checkTruncations(bySequence, matched, accuse, count);
  checkRepeats(bySequence, terms, evidence, suffered, accuse, count);
  checkLateness(all, terms, evidence, suffered, accuse, count);
  checkAcknowledgements(bySequence, terms, evidence, accuse);
  checkBookings(evidence, accuse);
  checkAttempts(allBySequence, evidence, accuse);
  checkParked(allBySequence, terms, evidence, accuse, count);
  const wasRejected = endedSo(rejectionsOf(evidence));
  checkReads({ deliveries: all, matched, evidence, isBefore, describe, wasRejected }, accuse);
  checkEnds(evidence, accuse);
  for (const what of evidence.stuck) accuse('nothing waits for the next change', what);
  if (evidence.leftOver > 0) accuse('the log is drained', `${evidence.leftOver} changes are left`);

  count('transactions', evidence.transactions.length);
  count('committed', evidence.marks.size);
  count(
    'changes',
    [...expected.values()].reduce((sum, changes) => sum + changes.length, 0),
  );
  count('handed out', deliveries.length);
  count('backfills', evidence.backfills.length);
  count('backfills that are done', evidence.backfills.filter(({ isDone }) => isDone).length);
  count('reads handed out', all.length - deliveries.length);
  count('repeats', deliveries.length - bySequence.size);
  count('acknowledged', evidence.acknowledgements.length);
  count('booked', evidence.bookings.length);
  count('handlers that failed', failuresOf(evidence).length);
  count('nodes that a handler killed', evidence.nodes.filter(({ reports }) => reports.some(isDeath)).length);
  count('parked', evidence.parked.length);
  for (const { kind } of evidence.rewinds) count(`went back: ${kind}`);
  count('handed out and lost', lost.length);
  count('clock set', evidence.clockSet.length);
  count('terms', terms.size);
  count('nodes', evidence.nodes.length);
  return { violations, counts };
}

/** Map.groupBy, which Node 20 does not have. */
function groupBy<Item, Key>(items: Iterable<Item>, keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

export type Accuse = (rule: string, what: string) => void;
type Count = (what: string) => void;

function deliveriesOf({ nodes }: Evidence): Delivery[] {
  return nodes.flatMap(({ name, reports }) =>
    reports.flatMap((report, index) =>
      report.kind === 'event'
        ? { node: name, token: BigInt(report.event.fencingToken!), index, at: report.at, event: report.event }
        : [],
    ),
  );
}

const nameOf = (location: string, operation: string, id: string) => JSON.stringify([location, operation, id]);

interface Expected {
  /** What must have been handed out, by what the events say; where several say the same, in the order they were made. */
  readonly expected: Map<string, Change[]>;
  /** What the server may have lost, and may have been handed out before. */
  readonly undone: Map<string, Change[]>;
}

function expectedChanges(evidence: Evidence, accuse: Accuse): Expected {
  const survived: Change[] = [];
  const lost: Change[] = [];
  for (const transaction of evidence.transactions) {
    const { name, outcome, changes } = transaction;
    const committed = evidence.marks.has(name);
    const mayBeLost = mayBeUndone(evidence, transaction);
    if (!mayBeLost && ((outcome === 'committed' && !committed) || (outcome === 'rolled back' && committed))) {
      accuse('the server keeps its word', `${name} was ${outcome}, its mark says otherwise`);
    }
    if (committed) survived.push(...changes);
    else if (mayBeLost) lost.push(...changes);
  }
  const byName = (changes: Change[]) =>
    groupBy(
      changes.toSorted((a, b) => a.place - b.place),
      ({ table, operation, row }) => nameOf(table.location, operation, table.identity(row).id),
    );
  return { expected: byName(survived), undone: byName(lost) };
}

/** Which change each sequence stands for. */
function matchAll(
  bySequence: ReadonlyMap<string, Delivery[]>,
  isSurvivor: (sequence: string) => boolean,
  expected: ReadonlyMap<string, Change[]>,
  undone: ReadonlyMap<string, Change[]>,
  accuse: Accuse,
): Map<string, Change> {
  const matched = new Map<string, Change>();
  const named = (sequences: Iterable<string>) =>
    groupBy(sequences, (sequence) => {
      const { location, operation, id } = bySequence.get(sequence)![0]!.event;
      return nameOf(location, operation, id);
    });
  const handedOut = named([...bySequence.keys()].filter(isSurvivor));
  const lost = named([...bySequence.keys()].filter((sequence) => !isSurvivor(sequence)));
  for (const [key, changes] of expected) {
    const sequences = (handedOut.get(key) ?? []).toSorted(bySize);
    if (sequences.length < changes.length) {
      accuse('nothing is lost', `${key}: ${sequences.length} of ${changes.length} were handed out`);
    }
    sequences.forEach((sequence, n) => changes[n] && matched.set(sequence, changes[n]));
  }
  const limit = (found: ReadonlyMap<string, string[]>, made: ReadonlyMap<string, Change[]>) => {
    for (const [key, sequences] of found) {
      const surplus = sequences.length - (made.get(key)?.length ?? 0);
      if (surplus > 0)
        accuse('nothing is invented', `${key}: ${surplus} more than were committed: ${sequences.join()}`);
    }
  };
  limit(handedOut, expected);
  limit(lost, undone);
  return matched;
}

function checkContent(
  bySequence: ReadonlyMap<string, Delivery[]>,
  matched: ReadonlyMap<string, Change>,
  trigger: string,
  accuse: Accuse,
): void {
  const rule = 'an event says what happened';
  for (const [sequence, [first, ...more]] of bySequence) {
    const { fencingToken: _, attempt: __, ...event } = first!.event;
    const change = matched.get(sequence);
    const key = change?.table.tellsRowsApart ? change.table.identity(change.row).key : event.key;
    const { r, g, v } = (event.after ?? {}) as Partial<Row>;
    const isRight =
      !change?.table.tellsRowsApart ||
      event.operation === 'delete' ||
      isDeepStrictEqual({ r, g, v }, { r: change.row.r, g: change.row.g, v: change.row.v });
    if (!isDeepStrictEqual(event.key, key) || event.trigger !== trigger || !isRight)
      accuse(rule, JSON.stringify(first!.event));
    for (const { event: repeated } of more) {
      const { fencingToken: _, attempt: __, ...again } = repeated;
      if (!isDeepStrictEqual(event, again))
        accuse('a sequence names one change', `${JSON.stringify(event)}, then ${JSON.stringify(again)}`);
    }
  }
}

function termsOf(claims: readonly Claim[]): Map<bigint, Term> {
  return new Map(
    claims.map((claim, index) => {
      const next = claims[index + 1];
      return [BigInt(claim.token), { ...claim, to: next?.at ?? Infinity, lostBy: next?.wonBy ?? null }];
    }),
  );
}

function checkTokens(
  deliveries: readonly Delivery[],
  terms: ReadonlyMap<bigint, Term>,
  accuse: Accuse,
): void {
  const last = new Map<string, bigint>();
  for (const { node, token, event } of deliveries) {
    const holder = terms.get(token)?.node;
    if (holder !== node) {
      accuse(
        'a token belongs to one node',
        `${node} handed ${event.sequence} out under ${token}, which is ${holder}'s`,
      );
    }
    if (token < (last.get(node) ?? 0n)) accuse('tokens rise', `${node}: ${token} after ${last.get(node)}`);
    last.set(node, token);
  }
}

function checkOrder(
  deliveries: readonly Delivery[],
  bySequence: ReadonlyMap<string, Delivery[]>,
  matched: ReadonlyMap<string, Change>,
  { nodes }: Evidence,
  accuse: Accuse,
): void {
  const rule = "a row's changes keep their order";
  // With process() the changes of one key keep their order, and where there is no key, those of one id.
  const atOnce = new Set(
    nodes.filter(({ consumer }) => consumer.startsWith('process')).map(({ name }) => name),
  );
  const isTold = ({ table, row }: Change, sequence: string) =>
    table.tellsRowsApart &&
    (table.identity(row).key !== null || !bySequence.get(sequence)!.some(({ node }) => atOnce.has(node)));
  const told = [...matched].filter(([sequence, change]) => isTold(change, sequence));
  const rowOf = ({ table, row }: Change) => `${table.location} ${row.r}`;

  // Over all nodes: each change's first delivery comes after that of the change before.
  for (const [row, changes] of groupBy(told, ([, change]) => rowOf(change))) {
    const inOrder = changes.toSorted(([, a], [, b]) => a.place - b.place);
    const firsts = inOrder.map(([sequence]) =>
      bySequence.get(sequence)!.reduce((a, b) => (isBefore(a, b) ? a : b)),
    );
    firsts.forEach((delivery, n) => {
      if (n > 0 && isBefore(delivery, firsts[n - 1]!)) {
        accuse(rule, `${row}: ${describe(delivery)} came before ${describe(firsts[n - 1]!)}`);
      }
    });
  }

  // Within a term, repeats included.
  const last = new Map<string, { place: number; delivery: Delivery }>();
  for (const delivery of deliveries) {
    const change = matched.get(delivery.event.sequence!);
    if (!change || !isTold(change, delivery.event.sequence!)) continue;
    const key = `${delivery.token} ${rowOf(change)}`;
    const previous = last.get(key);
    if (previous && change.place < previous.place) {
      accuse(rule, `${key}: ${describe(delivery)} came after ${describe(previous.delivery)}`);
    }
    last.set(key, { place: change.place, delivery });
  }
}

/** A truncation comes after all changes of its table that are before it, and before all that are after it. */
function checkTruncations(
  bySequence: ReadonlyMap<string, Delivery[]>,
  matched: ReadonlyMap<string, Change>,
  accuse: Accuse,
  count: Count,
): void {
  const first = (sequence: string) => bySequence.get(sequence)!.reduce((a, b) => (isBefore(a, b) ? a : b));
  for (const [truncation] of matched) {
    const at = first(truncation);
    if (!isTruncation(at.event)) continue;
    count('truncations');
    for (const [sequence] of matched) {
      const other = first(sequence);
      if (sequence === truncation || other.event.location !== at.event.location) continue;
      const [one, two] = bySize(sequence, truncation) < 0 ? [other, at] : [at, other];
      if (!isBefore(one, two))
        accuse('a truncation has its place', `${describe(two)} came before ${describe(one)}`);
    }
  }
}

/** Terms follow one another, and within a term there is one node. */
const isBefore = (a: Delivery, b: Delivery) => (a.token === b.token ? a.index < b.index : a.token < b.token);

const describe = ({ node, token, event: { sequence, operation, location, id } }: Delivery) =>
  `${operation} ${location} ${id} (sequence ${sequence}, ${node}, token ${token})`;

/** Asks whether something befell a node between two moments, or shortly before. */
type Suffered = (node: string, from: number, to: number, isOfKind: (mishap: Mishap) => boolean) => boolean;

function sufferings({ nodes, aftermath }: Evidence): Suffered {
  const all = new Map(
    nodes.map(({ name, mishaps, reports }) => {
      const stalls = reports.flatMap((r) =>
        r.kind === 'stall' ? { kind: 'stall', from: r.from, to: r.to } : [],
      );
      const deaths = reports.filter(isDeath).map(({ at }) => ({ kind: 'kill', from: at, to: Infinity }));
      return [name, [...mishaps, ...stalls, ...deaths]];
    }),
  );
  return (node, from, to, isOfKind) =>
    (all.get(node) ?? []).some((m) => isOfKind(m) && m.from <= to && m.to + aftermath >= from);
}

/** Why a node gave its last life up before this time, as it said itself. */
function lastTrouble({ nodes }: Evidence, name: string, before: number): string {
  const { reports } = nodes.find((node) => node.name === name)!;
  const trouble = reports.findLast((report) => report.kind === 'reconnecting' && report.at <= before);
  return JSON.stringify(trouble);
}

/**
 * Whether the consumer was busy with an event for longer than a node that ends waits for it. A transaction of the consumer's own takes
 * connections, which take long on a busy machine.
 */
function isSlow({ nodes, aftermath }: Evidence, { node, at, event, token }: Delivery): boolean {
  const { reports } = nodes.find(({ name }) => name === node)!;
  return reports.some(
    (report) =>
      (report.kind === 'hangs' ||
        ((report.kind === 'ack' || report.kind === 'handled') && report.at > at + aftermath)) &&
      report.sequence === event.sequence &&
      report.token === String(token),
  );
}

type Handled = Extract<Report, { kind: 'handled' }>;
const isDeath = (report: Report) => report.kind === 'dies';

const rejectionsOf = ({ nodes }: Evidence): Handled[] =>
  nodes.flatMap(({ reports }) =>
    reports.filter((report): report is Handled => report.kind === 'handled' && report.error !== null),
  );
/** Those that say something of the event. */
const failuresOf = (evidence: Evidence): Handled[] =>
  rejectionsOf(evidence).filter(({ isCounted }) => isCounted);

/** Whether the handler of this delivery is among these. */
function endedSo(handled: readonly Handled[]): (delivery: Delivery) => boolean {
  const named = (sequence: string, token: string, attempt: number) => `${sequence} ${token} ${attempt}`;
  const all = new Set(handled.map((one) => named(one.sequence, one.token, one.attempt)));
  return ({ event }) => all.has(named(event.sequence!, event.fencingToken!, event.attempt));
}

function checkRepeats(
  bySequence: ReadonlyMap<string, Delivery[]>,
  terms: ReadonlyMap<bigint, Term>,
  evidence: Evidence,
  suffered: Suffered,
  accuse: Accuse,
  count: Count,
): void {
  const { acknowledgements, harmfulStall } = evidence;
  const isHarm = ({ kind, from, to }: Mishap) => kind !== 'stall' || to - from >= harmfulStall;
  const acknowledged = new Map(acknowledgements.map((ack) => [ack.sequence, ack]));
  const wasRejected = endedSo(rejectionsOf(evidence));
  for (const [sequence, all] of bySequence) {
    const inOrder = all.toSorted((a, b) => (isBefore(a, b) ? -1 : 1));
    inOrder.forEach((delivery, n) => {
      const before = inOrder[n - 1];
      if (!before) return;
      const what = `${describe(before)}, then ${delivery.node} under ${delivery.token}`;
      const mayRepeat = wasRejected(before);
      if (mayRepeat) count('again, after a failure');
      if (before.token === delivery.token) {
        if (!mayRepeat) accuse('nothing comes twice in one term', what);
        return;
      }
      const { token, inTransaction } = acknowledged.get(sequence) ?? {};
      // A consumer's transaction may be committed after the lease has passed on.
      if (token && !inTransaction && BigInt(token) < delivery.token) {
        accuse('what is acknowledged does not come again', `${what}; acknowledged under ${token}`);
      }
      if (mayRepeat) return;
      // The change was in hand, or the server has lost the acknowledgement.
      if (wentBack(evidence, before.at, delivery.at)) return;
      if (isSlow(evidence, before)) return count('again, of a slow consumer');
      const term = terms.get(before.token);
      // What has cost a node its lease, or its life, did so when the next one came.
      if (term && !suffered(before.node, term.to, term.to, isHarm)) {
        accuse(
          'nothing comes twice while no node comes to harm',
          `${what}, ${term.lostBy}; ${lastTrouble(evidence, before.node, delivery.at)}`,
        );
      }
    });
  }
  for (const { lostBy } of terms.values()) if (lostBy) count(`lease ${lostBy}`);
}

/** How long the news that a session is gone may take to its node, in milliseconds. */
const NEWS = 50;

/** What is handed out although another node has claimed the lease. */
function checkLateness(
  deliveries: readonly Delivery[],
  terms: ReadonlyMap<bigint, Term>,
  { clockSet, aftermath }: Evidence,
  suffered: Suffered,
  accuse: Accuse,
  count: Count,
): void {
  const late = deliveries.filter(({ token, at }) => at > (terms.get(token)?.to ?? Infinity) + 2);
  for (const [token, group] of groupBy(late, (delivery) => delivery.token)) {
    const { to, lostBy } = terms.get(token)!;
    const { node, at } = group.at(-1)!;
    // The one event that was on its way to the consumer when the process was frozen.
    if (group.length === 1 && suffered(node, to, at, ({ kind }) => /freeze|stall/.test(kind))) {
      count('late, of a frozen node');
    } else if (
      lostBy === 'dead' &&
      (at <= to + NEWS || suffered(node, to, at, ({ kind }) => /freeze|stall|silence/.test(kind)))
    ) {
      // Its session had ended, and it could not know it yet.
      count('late, of a node whose session had ended');
    } else if (
      clockSet.some((set) => set >= to - aftermath && set <= to + NEWS) &&
      suffered(node, to, at, ({ kind }) => /freeze|stall|silence/.test(kind))
    ) {
      // It missed two renewals, and the lease expired early by the database's clock.
      count('late, of a silent node whose lease a jump of the clock has ended');
    } else {
      const rule = 'a node that has lost the lease hands out nothing more';
      accuse(
        rule,
        `${group.length}, up to ${Math.round(at - to)} ms after ${lostBy}: ${describe(group[0]!)}`,
      );
    }
  }
}

function checkAcknowledgements(
  bySequence: ReadonlyMap<string, Delivery[]>,
  terms: ReadonlyMap<bigint, Term>,
  evidence: Evidence,
  accuse: Accuse,
): void {
  const { acknowledgements, nodes, parked } = evidence;
  const isParked = new Set(parked.map(({ sequence }) => sequence));
  const rule = 'no acknowledgement is accepted from a node whose lease is gone';
  const accepted = new Map(acknowledgements.map((ack) => [ack.sequence, ack]));
  for (const { sequence, node, token } of acknowledgements) {
    const holder = token === null ? 'nobody' : terms.get(BigInt(token))?.node;
    if (holder !== node) accuse(rule, `${sequence} by ${node}, under ${token}, which is ${holder}'s`);
    const handedOut = bySequence.get(sequence)?.some((d) => d.node === node && String(d.token) === token);
    // A change that was in hand at too many deaths is parked without being handed out again.
    if (!handedOut && !isParked.has(sequence)) {
      accuse(
        'only what was handed out in a term is acknowledged in it',
        `${sequence} by ${node} under ${token}`,
      );
    }
  }
  for (const { name, reports } of nodes) {
    for (const report of reports) {
      if (report.kind !== 'ack' || isRead(report.sequence)) continue;
      const found = accepted.get(report.sequence);
      const was = found?.node === name && found.token === report.token;
      // A transaction of the term before was open when the change was handed out again, and has committed since: the change is gone.
      const wasInTransaction =
        found?.inTransaction && found.token !== null && BigInt(found.token) < BigInt(report.token);
      // A node that was frozen tells late what the server had done before it went back.
      const since = bySequence
        .get(report.sequence)
        ?.find(({ node, token }) => node === name && String(token) === report.token)?.at;
      const mayBeLost = mayBeUnacknowledged(evidence, since ?? report.at);
      if (report.code === null && !was && !wasInTransaction && !mayBeLost)
        accuse('ack() resolves when it is done', JSON.stringify({ name, report, found }));
      if (report.code === 'ERR_LEASE_LOST' && was)
        accuse('ack() rejects when it is not done', JSON.stringify(report));
    }
  }
}

/** With `ack(event, client)`, what is done for an event and the acknowledgement are one. */
function checkBookings({ bookings, acknowledgements }: Evidence, accuse: Accuse): void {
  const rule = 'exactly once';
  const acknowledged = new Set(
    acknowledgements.flatMap(({ sequence, inTransaction }) => (inTransaction ? sequence : [])),
  );
  for (const [sequence, all] of groupBy(bookings, (booking) => booking.sequence)) {
    if (all.length > 1) accuse(rule, `${sequence} was booked ${all.length} times: ${JSON.stringify(all)}`);
    if (!acknowledged.has(sequence) && !isRead(sequence))
      accuse(rule, `${sequence} was booked and not acknowledged`);
    acknowledged.delete(sequence);
  }
  for (const sequence of acknowledged) accuse(rule, `${sequence} was acknowledged and not booked`);
}

/** An event counts its failures, and nothing else. */
function checkAttempts(
  bySequence: ReadonlyMap<string, Delivery[]>,
  evidence: Evidence,
  accuse: Accuse,
): void {
  const failed = groupBy(failuresOf(evidence), ({ sequence }) => sequence);
  const hasFailed = endedSo(failuresOf(evidence));
  // The same attempt comes again after an error of the package's own, and may fail only then.
  const mayComeAgain = endedSo(rejectionsOf(evidence).filter(({ isCounted }) => !isCounted));
  for (const [sequence, all] of bySequence) {
    const inOrder = all.toSorted((a, b) => (isBefore(a, b) ? -1 : 1));
    for (const [n, delivery] of inOrder.entries()) {
      const { attempt } = delivery.event;
      if (attempt - 1 > (failed.get(sequence)?.length ?? 0))
        accuse('an attempt is counted for a failure alone', `attempt ${attempt}: ${describe(delivery)}`);
      const before = inOrder[n - 1];
      if (before?.token !== delivery.token || !hasFailed(before)) continue;
      if (attempt !== before.event.attempt + 1 && !(attempt === before.event.attempt && mayComeAgain(before)))
        accuse(
          'each failure is counted',
          `attempt ${attempt} after ${before.event.attempt}: ${describe(delivery)}`,
        );
    }
  }
}

/** How many deaths in a row are blamed on an event. */
const DEATHS = 5;

/**
 * What was parked has failed as often as it may, or it was in hand each time when a node died. Its handler has not ended since before these
 * deaths, since an event whose handler ends is acquitted.
 */
function checkParked(
  bySequence: ReadonlyMap<string, Delivery[]>,
  terms: ReadonlyMap<bigint, Term>,
  evidence: Evidence,
  accuse: Accuse,
  count: Count,
): void {
  const rule = 'nothing is parked that did not fail';
  const failed = groupBy(failuresOf(evidence), ({ sequence }) => sequence);
  const handled = groupBy(
    evidence.nodes.flatMap(({ reports }) =>
      reports.filter((report): report is Handled => report.kind === 'handled'),
    ),
    ({ sequence }) => sequence,
  );
  for (const { sequence, attempts, error } of evidence.parked) {
    const what = `${sequence} after ${attempts} attempts: ${error}`;
    const failures = failed.get(sequence)?.length ?? 0;
    if (!/times in a row/.test(error)) {
      if (attempts < ATTEMPTS || failures < ATTEMPTS)
        accuse(rule, `${what}; its handler failed ${failures} times`);
      continue;
    }
    count('parked after deaths');
    const ended = (handled.get(sequence) ?? []).reduce((at, report) => Math.max(at, report.at), -Infinity);
    const lost = [...terms.values()].filter(
      ({ to, lostBy }) => to > ended && to < Infinity && lostBy !== 'released',
    );
    const inHand = (bySequence.get(sequence) ?? []).filter(({ at }) => at > ended);
    const fatal = new Set(
      inHand.flatMap(({ token }) => (lost.some((term) => BigInt(term.token) === token) ? token : [])),
    );
    if (lost.length < DEATHS || fatal.size < 2)
      accuse(
        rule,
        `${what}; since its handler ended last, ${lost.length} terms were lost, ${fatal.size} with it in hand`,
      );
  }
}

function checkEnds({ nodes }: Evidence, accuse: Accuse): void {
  for (const { name, reports, exit, mishaps } of nodes) {
    for (const report of reports) {
      if (report.kind === 'failed' && report.where === 'handle') {
        accuse('a node does not give up', `${name}: ${report.code} ${report.message}`);
      }
    }
    const killed = mishaps.some(({ kind }) => kind === 'kill') || reports.some(isDeath);
    if (exit.code !== 0 && !killed) {
      const last = reports.findLast(({ kind }) => kind !== 'event' && kind !== 'ack');
      accuse('a node ends by itself', `${name}: ${JSON.stringify(exit)}, last ${JSON.stringify(last)}`);
    }
  }
}
