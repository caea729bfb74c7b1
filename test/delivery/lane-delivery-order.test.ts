/**
 * A delivery against a model: a log in memory, a reader that reads again what lanes have dropped, and a consumer that acknowledges, refuses, and parks at
 * random. The event loop turns at random too: what is over, and what is ready to be handed out next, is known to the lanes only in the next turn.
 */
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import type { Failure, Failures } from '../../src/capture/failures.ts';
import { CAPACITY } from '../../src/delivery/delivery.ts';
import { type Held, LaneDelivery } from '../../src/delivery/lane-delivery.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { changeOf, diceOf, inArrival, isBefore, loggedRows } from '../support/generated-log.ts';
import { servedTerm } from '../support/served-term.ts';

/** Of rows: from such that weigh as little as a change can, to such that fill the lanes. */
const TEXTS = [0, 60_000, 300_000, 480_000, 600_000].map((length) => 'x'.repeat(length));

/** What is to hold of suspects is said in the model of the table of failures. */
test.each([
  ['never two of a row at once, and suspects alone', true],
  ['many of a row at once if the consumer acknowledges by hand', false],
])('hands out each change until it is over, after what it waits for, and %s', async (_, exclusive) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  const counts = { again: 0, refused: 0, parked: 0, suspected: 0 };
  await fc.assert(
    fc.asyncProperty(
      loggedRows,
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom(null, 0, 3, 1000),
      fc.integer({ min: 1, max: 1_000_000 }),
      async (rows, maxInFlight, suspected, seed) => {
        const dice = diceOf(seed);
        const log = rows.map((row, n) => changeOf(row, n, TEXTS[dice() % TEXTS.length]));
        const arrival = inArrival(log, dice);
        let arrived = 0;
        // What the tables have. An acknowledgement is written some time later.
        const inLog = new Set(log.map(({ sequence }) => sequence!));
        const acknowledged = new Set<string>();
        /** How often those failed that are in the table of failures. */
        const failed = new Map<string, number>();
        const write = () => {
          for (const sequence of acknowledged) inLog.delete(sequence);
          acknowledged.clear();
        };
        // What the consumer knows.
        const inHand = new Map<string, Held>();
        const handedOut = new Set<string>();
        const over = new Set<string>();
        /** Those for which a death is counted now. */
        const group = new Set<string>();
        const leaveHand = (sequence: string) => {
          inHand.delete(sequence);
          group.delete(sequence);
        };

        const failures: Failures = {
          load: async () => [],
          async fail({ sequence }, { attempts }) {
            failed.set(sequence, attempts);
          },
          async park({ sequence }) {
            counts.parked++;
            leaveHand(sequence);
            over.add(sequence);
            inLog.delete(sequence);
            failed.delete(sequence);
            return true;
          },
          async suspect(changes) {
            // Whoever kills the process from now on is in the group.
            expect([...inHand.keys()]).toEqual([]);
            counts.suspected += changes.length;
            for (const { sequence } of changes) {
              group.add(sequence);
              if (!failed.has(sequence)) failed.set(sequence, 0);
            }
          },
          async clear(changes) {
            for (const { sequence } of changes) if (failed.get(sequence) === 0) failed.delete(sequence);
          },
          async forget(changes) {
            for (const { sequence } of changes) failed.delete(sequence);
          },
        };
        const delivery = new LaneDelivery({
          ...servedTerm({
            failures: () => failures,
            acknowledge: (sequence) => acknowledged.add(sequence),
            pending: () => new Set(acknowledged),
            written: async () => write(),
          }),
          traffic: new Traffic('test'),
          maxInFlight,
          exclusive,
          key: null,
          slowAfter: Infinity,
          ready: () => {},
        });

        // Some have failed in an earlier term, or were in hand when it died.
        const known: Failure[] = log
          .filter(() => dice() < 10)
          .map(({ sequence, stamp }) => {
            const [attempts, deaths] = [1 + (dice() % 3), exclusive ? dice() % 6 : 0];
            failed.set(sequence!, attempts);
            return { sequence: sequence!, stamp, error: null, delay: dice() - 50, attempts, deaths };
          });
        delivery.begin(known, exclusive ? suspected : null);
        const handOut = () => {
          const held = delivery.handOutHeld();
          const sequence = held.ticket.change.sequence!;
          const refuse = (why: string) => {
            throw new Error(`${sequence} is handed out ${why}`);
          };
          if (over.has(sequence)) refuse('although it is over');
          if (inHand.has(sequence)) refuse('although it is in hand');
          if (group.size > 0 && !group.has(sequence)) refuse('beside suspects');
          if (inHand.size >= maxInFlight) refuse('although enough is in hand');
          for (const other of log) {
            if (over.has(other.sequence!) || !isBefore(other, held.ticket.change)) continue;
            // Of what is taken at once, one that fails comes again behind the others.
            const isTaken = !exclusive && (handedOut.has(sequence) || handedOut.has(other.sequence!));
            if (!isTaken) refuse(`before ${other.sequence}`);
          }
          handedOut.add(sequence);
          inHand.set(sequence, held);
        };

        /** Lets go of one that is in hand. */
        const end = async (held: Held) => {
          const { sequence } = held.ticket.change;
          const roll = dice();
          leaveHand(sequence!);
          if (roll < 42) counts.refused++;
          if (roll < 30) void delivery.retry(held, 'not now', dice());
          else if (roll < 35) delivery.again(held, dice());
          else if (roll < 42) await delivery.park(held, 'never', held.event.attempt);
          else {
            over.add(sequence!);
            delivery.acknowledge(held);
            if (roll < 70) write();
          }
        };

        let answer = null as (() => void) | null;
        /** Reads a page of the log again: first the statement, then its answer. In between, the reader brings nothing. */
        const readAgain = (): boolean => {
          if (answer) {
            answer();
            answer = null;
            return true;
          }
          const reading = delivery.dropped.begin();
          if (!reading) return false;
          counts.again++;
          const found = log.filter(
            (change) =>
              inLog.has(change.sequence!) &&
              arrival.indexOf(change) < arrived &&
              BigInt(change.sequence!) >= reading.from,
          );
          const page = found.slice(0, 1 + (dice() % 6));
          const upto = page.length === found.length ? null : BigInt(page.at(-1)!.sequence!);
          answer = () => reading.take(page, upto);
          return true;
        };

        for (let step = 0; over.size < log.length; step++) {
          if (step > 20_000) throw new Error(`stuck, with only ${[...over].join()} over`);
          if (dice() < 15) await turn();
          const roll = dice();
          if (roll < 15 && !answer && delivery.room >= CAPACITY / 2) {
            const page = arrival.slice(arrived, arrived + 1 + (dice() % 5));
            arrived += page.length;
            delivery.push(page);
          } else if (roll < 45) {
            // A consumer that has had its turn asks, and takes nothing.
            if (delivery.canHandOut && roll < 40) handOut();
          } else if (roll < 60) readAgain();
          else if (roll < 70) vi.advanceTimersByTime(dice());
          else if (inHand.size > 0) await end([...inHand.values()][dice() % inHand.size]!);
        }
        // The term ends: nothing is kept of failures of what is over, although the event loop has not turned since.
        await delivery.acquit();
        expect([...failed]).toEqual([]);
        while (readAgain());
        await turn();
        const { isQuiet, room, blockedKeys, dropped } = delivery;
        expect([isQuiet, room, blockedKeys, dropped.any]).toEqual([true, CAPACITY, 0, false]);
        delivery.forget();
      },
    ),
    { numRuns: Number(process.env['LD_RUNS'] ?? 500) },
  );
  // The model is of use only if it meets what is hard.
  expect(Math.min(counts.again, counts.refused, counts.parked)).toBeGreaterThan(100);
  expect(counts.suspected > 100).toBe(exclusive);
  vi.useRealTimers();
});
