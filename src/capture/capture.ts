/**
 * How one term finds the changes of the database and acknowledges them: what the rest of the package knows of capture.
 *
 * A capture belongs to one term. It begins at the start of the log, brings every change that is not acknowledged to the sink, and
 * remembers nothing beyond the term. What it brings are changes; they become events when they are handed out.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { DATABASE_IDENTITY, type Signature } from '../schema/wire-format.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { Backfills, type BackfillsOptions } from './backfills.ts';
import { FailureTable } from './failures.ts';
import { Reader, type ReaderOptions, type RenewalAnswer, askedAtRenewal } from './reader.ts';
import { SourcesAcknowledger, failuresOf } from './sources.ts';
import type { Store } from './store.ts';

export interface Capture extends Store {
  /** Brings changes to the sink until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** To be called for every notification on the input's channel. */
  onNotification(payload: string): void;
  /** To be called for every marker on the nodes' channel. */
  onMarker(marker: string): void;
  /** To be called when somebody may have redriven parked changes. */
  onRedriven(): void;
  /** What every renewal of the lease has to ask in its statement: a select list. */
  readonly askedAtRenewal: string;
  /** To be called with the answer of every renewal. */
  onRenewal(answer: RenewalAnswer): void;
  readonly backfills: Backfills;
}

export interface CaptureOptions
  extends Omit<ReaderOptions, 'fail' | 'backfills'>, Omit<BackfillsOptions, 'rouse'> {
  /** Called for garbage on the channel, and for an acknowledgement that failed although the lease is held. */
  readonly fail: (error: unknown) => void;
}

export function beginTerm(options: CaptureOptions): Capture {
  const { session, names, hold, fail } = options;
  const backfills = new Backfills({ ...options, rouse: () => reader.rouse() });
  const reader: Reader = new Reader({ ...options, backfills });
  return {
    run: (signal) => reader.run(signal),
    onNotification: (payload) => reader.onNotification(payload),
    onMarker: (marker) => reader.onMarker(marker),
    onRedriven: () => reader.onRedriven(),
    askedAtRenewal: askedAtRenewal(names),
    onRenewal: (answer) => void reader.onRenewal(answer).catch(fail),
    readAgain: () => reader.rouse(),
    acknowledgements: new SourcesAcknowledger(
      new Acknowledgements(session, names, hold, fail),
      backfills.acknowledgements,
    ),
    failures: failuresOf(
      new FailureTable(session, names, hold, (number) => reader.redriven.forget(number)),
      backfills.acknowledgements,
    ),
    backfills,
    numberOf: (seq) => reader.redriven.numberOf(seq),
  };
}

/**
 * How the triggers sign their notifications.
 * @throws {PostgresInputError} ERR_INSTALL
 */
export async function readSignature(session: Session, { secretTable }: Names): Promise<Signature> {
  const [row] = await session.query<{ secret: Buffer; database: string }>(
    `SELECT key AS secret, ${DATABASE_IDENTITY} AS database FROM ${secretTable.sql}`,
  );
  if (row) return row;
  throw new PostgresInputError(
    'ERR_INSTALL',
    `${secretTable.sql} is empty: somebody removed its row; call handle() again, which makes it anew, or run install`,
    { retryable: true },
  );
}
