import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BackfillAcknowledgements, type Reading } from '../../src/capture/backfill-acknowledgements.ts';
import type { BackfillStore, Job } from '../../src/capture/backfill-store.ts';
import { Change } from '../../src/capture/change.ts';

const sequenceOf = (row: number): string => `1${String(row).padStart(47, '0')}`;
const readOf = (row: number, order = 0): Change =>
  new Change(sequenceOf(row + 100 * order), 'items', 'read', String(row), 'id', null, null, '', null);

function makeReading(store: BackfillStore, progress: Partial<Job>, acknowledged: Iterable<string> = []) {
  const acknowledgements = new BackfillAcknowledgements({
    store,
    hold: { holder: 'a', token: '1' },
    finished: () => {},
    rouse: () => {},
    fail: (error) => {
      throw error;
    },
  });
  const job = { backfill: '1', relation: '1', ...progress } as Job;
  const skipped = new Set(acknowledged);
  const reading: Reading = {
    job,
    limit: 2,
    isPatient: false,
    isRead: false,
    isCancelled: false,
    skipped,
    chunks: [],
  };
  return { acknowledgements, reading, job };
}

/** A table whose key is a number, the acknowledgements of its rows, and what they write. */
function setup() {
  const written: { cursor: readonly string[] | null; kept: string[]; cleared: readonly string[] } = {
    cursor: null,
    kept: [],
    cleared: [],
  };
  const store = {
    acknowledged: async () => [],
    finish: async (_job, cursor, _rows, isRead, cleared) => {
      Object.assign(written, { cursor, cleared });
      return isRead;
    },
    keep: async (events) => void written.kept.push(...events.map(([, sequence]) => sequence)),
  } as Partial<BackfillStore> as BackfillStore;
  const { acknowledgements, reading, job } = makeReading(store, { after: [] });
  /** Reads the next rows. */
  const read = (...rows: number[]): void =>
    acknowledgements.add(reading, {
      snapshot: '',
      changes: rows.filter((row) => !reading.skipped.has(sequenceOf(row))).map((row) => readOf(row)),
      after: job.after,
      cursor: [String(rows.at(-1))],
      scanned: rows.length,
      last: false,
      time: 1,
    });
  const acknowledge = async (...rows: number[]): Promise<void> => {
    for (const row of rows) await acknowledgements.acknowledge(sequenceOf(row));
    await acknowledgements.finishAll();
  };
  return { acknowledgements, reading, job, read, acknowledge, written };
}

test('rows of several chunks that have to be read again are all read again, and the progress stays before the first', async () => {
  const { acknowledgements, job, read, acknowledge, written } = setup();
  read(1, 2);
  read(3, 4);
  read(5, 6);
  acknowledgements.readAgain(sequenceOf(3));
  acknowledgements.readAgain(sequenceOf(5));
  expect(job.after).toEqual(['2']);
  await acknowledge(1, 2, 4, 6);
  expect(written.cursor).toEqual(['2']);
  read(3, 4, 5);
  expect(acknowledgements.outstanding).toBe(2);
  await acknowledge(3, 5);
  expect(written.cursor).toEqual(['5']);
});

test('what is acknowledged while the term ends is kept at once', async () => {
  const { acknowledgements, read, written } = setup();
  read(1, 2);
  acknowledgements.end();
  await acknowledgements.flush();
  await acknowledgements.acknowledge(sequenceOf(1));
  expect(written.kept).toEqual([sequenceOf(1)]);
});

test('what was acknowledged in a chunk that is read again is kept until the progress is over it', async () => {
  const { acknowledgements, read, acknowledge, written } = setup();
  read(1, 2);
  read(3, 4);
  acknowledgements.readAgain(sequenceOf(1));
  await acknowledge(2, 3, 4);
  expect(written).toMatchObject({ cursor: [], kept: [2, 3, 4].map(sequenceOf) });
});

/** What the database has of a backfill. */
interface Kept {
  after: readonly string[];
  /** The order to which the cursor belongs. */
  order: string | null;
  isDone: boolean;
  readonly rows: Set<string>;
}

/** A node's term: it goes on where the one before has come to. */
function beginTerm(kept: Kept) {
  const store = {
    acknowledged: async () => [...kept.rows],
    finish: async (_job, cursor, _rows, isRead, cleared) => {
      kept.after = cursor ?? kept.after;
      kept.isDone ||= isRead;
      for (const sequence of cleared) kept.rows.delete(sequence);
      return isRead;
    },
    keep: async (events) => {
      for (const [, sequence] of events) kept.rows.add(sequence);
    },
  } as Partial<BackfillStore> as BackfillStore;
  const { after, order } = kept;
  return { ...makeReading(store, { after, keyColumns: order }, kept.rows), out: [] as Change[] };
}

const MOVES = [
  'read',
  'read',
  'finish',
  'hand over',
  'die',
  'alter',
  'drop',
  'acknowledge in a transaction',
  'acknowledge',
  'acknowledge',
] as const;
const ROWS = 12;

test('every row comes, and none again unless a node dies or the order changes, whatever is acknowledged, dropped and handed over', async () => {
  const moves = fc.array(fc.tuple(fc.constantFrom(...MOVES), fc.nat(6), fc.integer({ min: 1, max: 4 })), {
    maxLength: 60,
    size: 'max',
  });
  await fc.assert(
    fc.asyncProperty(moves, fc.boolean(), fc.boolean(), async (made, mayDie, mayAlter) => {
      const kept: Kept = { after: [], order: null, isDone: false, rows: new Set() };
      const acknowledged: string[] = [];
      let order: 'up' | 'down' = 'up';
      let term = beginTerm(kept);

      const read = (count: number): void => {
        const { acknowledgements, reading } = term;
        const { job, skipped } = reading;
        if (job.keyColumns !== order) {
          acknowledgements.restart(reading);
          Object.assign(job, { keyColumns: order, after: [] });
          Object.assign(kept, { order, after: [] });
        }
        const rows = Array.from({ length: ROWS }, (_, i) => (order === 'up' ? i + 1 : ROWS - i));
        const from = job.after.length > 0 ? rows.indexOf(Number(job.after[0])) + 1 : 0;
        const chunk = rows.slice(from, from + count);
        const changes = chunk
          .map((row) => readOf(row, order === 'up' ? 0 : 1))
          .filter(({ sequence }) => !skipped.has(sequence!));
        term.out.push(...changes);
        acknowledgements.add(reading, {
          snapshot: '',
          changes,
          after: job.after,
          cursor: chunk.length > 0 ? [String(chunk.at(-1))] : job.after,
          scanned: chunk.length,
          last: chunk.length === 0,
          time: 1,
        });
      };
      const handOver = async (): Promise<void> => {
        term.acknowledgements.end();
        await term.acknowledgements.flush();
        term = beginTerm(kept);
      };
      const move = async (kind: (typeof MOVES)[number], n: number, count: number): Promise<void> => {
        const { acknowledgements, reading, out } = term;
        if (kind === 'read' && !reading.isRead) read(count);
        if (kind === 'finish') await acknowledgements.finishAll();
        if (kind === 'hand over') await handOver();
        if (kind === 'die' && mayDie) term = beginTerm(kept);
        if (kind === 'alter' && mayAlter) order = order === 'up' ? 'down' : 'up';
        if (kind !== 'drop' && !kind.startsWith('acknowledge')) return;
        const [change] = out.splice(n, 1);
        if (!change) return;
        const sequence = change.sequence!;
        if (kind === 'drop') return acknowledgements.readAgain(sequence);
        acknowledged.push(change.id);
        if (kind === 'acknowledge') return acknowledgements.acknowledge(sequence);
        kept.rows.add(sequence);
        expect(await acknowledgements.isGone(sequence)).toBe(true);
      };

      for (const one of made) await move(...one);
      for (let round = 0; !kept.isDone; round++) {
        if (round > 3 * ROWS) throw new Error('it does not come to its end');
        await move('read', 0, 3);
        while (term.out.length > 0) await move('acknowledge', 0, 0);
        await term.acknowledgements.finishAll();
      }
      const isRepeated = acknowledged.length > ROWS;
      expect(new Set(acknowledged).size).toBe(ROWS);
      expect(isRepeated && !mayDie && !mayAlter).toBe(false);
    }),
    { numRuns: 1000 },
  );
});
