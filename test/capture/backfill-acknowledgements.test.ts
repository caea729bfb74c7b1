import { expect, test } from 'vitest';
import { BackfillAcknowledgements, type Reading } from '../../src/capture/backfill-acknowledgements.ts';
import type { BackfillStore, Job } from '../../src/capture/backfill-store.ts';
import { Change } from '../../src/capture/change.ts';

const sequenceOf = (row: number): string => String(row).padStart(48, '1');
const readOf = (row: number): Change =>
  new Change(sequenceOf(row), 'items', 'read', String(row), 'id', null, null, '', null);

/** A table whose key is a number, the acknowledgements of its rows, and what they write. */
function setup() {
  const written: { cursor: readonly string[] | null; kept: string[]; cleared: readonly string[] } = {
    cursor: null,
    kept: [],
    cleared: [],
  };
  const store = {
    acknowledged: async () => [],
    finish: async (_job, cursor, _rows, _isDone, cleared) => {
      Object.assign(written, { cursor, cleared });
    },
    keep: async (events) => void written.kept.push(...events.map(([, sequence]) => sequence)),
  } as Partial<BackfillStore> as BackfillStore;
  const acknowledgements = new BackfillAcknowledgements({
    store,
    hold: { holder: 'a', token: '1' },
    finished: () => {},
    rouse: () => {},
    fail: (error) => {
      throw error;
    },
  });
  const job = { backfill: '1', relation: '1', after: [] } as Partial<Job> as Job;
  const reading: Reading = {
    job,
    limit: 2,
    isRead: false,
    isCancelled: false,
    skipped: new Set(),
    chunks: [],
  };
  /** Reads the next rows. */
  const read = (...rows: number[]): void =>
    acknowledgements.add(reading, {
      snapshot: '',
      changes: rows.filter((row) => !reading.skipped.has(sequenceOf(row))).map(readOf),
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
