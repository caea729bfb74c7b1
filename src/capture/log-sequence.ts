/**
 * Looks after the sequence that numbers the rows of the log.
 *
 * Scripts that set every sequence of a database, and `ALTER SEQUENCE ... RESTART`, set this one too. Set back, it allocates numbers that
 * rows of the log still have: the application's statements fail with 23505. Near the end of all numbers they fail with 22003 or 2200H.
 * The triggers can do nothing about it. So every renewal of the active node's lease also brings what the sequence has allocated, and the node sets
 * the sequence above all numbers that are in the log or that its term knows of. A role without the right to do so tells of it.
 *
 * The numbers between the fall and the repair stay low. Passes read them all the same (change-log.ts). But a later term reads the log in the order
 * of the numbers: it hands a change of a row with a low number out before a waiting one with a high number.
 */
import type { Notify } from '../api/lifecycle-events.ts';
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Session, Statement } from '../postgres/session.ts';
import { END_OF_NUMBERS, STRIDE } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { drawn } from './change-log-sql.ts';
import type { ChangeLog } from './change-log.ts';

/** So many numbers are left out by a repair. Writers draw some while the statement runs, and the sequence must not fall again. */
const MARGIN = 1000;

interface LogSequenceSql {
  readonly look: Statement;
  readonly repair: Statement;
}

const logSequenceSql = ({ logSequence, logTable }: Names): LogSequenceSql => ({
  look: { name: 'log_sequence_look', text: `SELECT ${drawn(logSequence)}::text AS drawn` },
  /** $1: the highest sequence that is known. Returns no row if the role may not set the sequence. */
  repair: {
    name: 'log_sequence_repair',
    text: `
SELECT setval(s.log_seq, greatest($1::bigint, (SELECT max(seq) FROM ${logTable.sql} WHERE seq < ${END_OF_NUMBERS})) / ${STRIDE} + ${MARGIN})
FROM (SELECT to_regclass(${quoteLiteral(logSequence.sql)})) s (log_seq)
WHERE has_sequence_privilege(s.log_seq, 'UPDATE')`,
  },
});

export class LogSequence {
  readonly #session: Session;
  readonly #sql: LogSequenceSql;
  readonly #log: ChangeLog;
  readonly #notify: Notify;
  /** Whether the sequence was wrong at the last look, and could not be repaired. */
  #isWrong = false;

  constructor(session: Session, names: Names, log: ChangeLog, notify: Notify) {
    this.#session = session;
    this.#sql = logSequenceSql(names);
    this.#log = log;
    this.#notify = notify;
  }

  /**
   * To be called with what the sequence had allocated a moment ago. Repairs the sequence if that is necessary and possible. Returns whether the
   * sequence has been found wrong since the last call.
   */
  async onAllocated(allocated: string): Promise<boolean> {
    // Notifications may have told of a higher sequence since that moment. Then a look finds that nothing is wrong.
    return this.#isWrong || isAmiss(BigInt(allocated), this.#log.highest) ? this.#look() : false;
  }

  async #look(): Promise<boolean> {
    // Before the query: notifications that arrive meanwhile tell of higher ones.
    const { highest } = this.#log;
    const [found] = await this.#session.query<{ drawn: string }>(this.#sql.look);
    const isWrong = isAmiss(BigInt(found!.drawn), highest);
    const wasWrong = this.#isWrong;
    this.#isWrong = isWrong;
    if (!isWrong) {
      if (wasWrong) this.#notify('sequenceReset', { repaired: true });
      return false;
    }
    const repaired = (await this.#session.query(this.#sql.repair, [highest])).length > 0;
    if (repaired) this.#isWrong = false;
    if (!repaired && wasWrong) return false;
    this.#log.noticeFall();
    this.#notify('sequenceReset', { repaired });
    return true;
  }
}

/** `highest`: a sequence that is known to have been allocated before. A role that may not read the sequence finds that it has allocated 0. */
const isAmiss = (allocated: bigint, highest: bigint): boolean =>
  allocated !== 0n && (allocated < highest || allocated >= END_OF_NUMBERS);
