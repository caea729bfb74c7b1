/** Reads the changes that were put back after they had been parked. Their numbers are negative, so that no pass meets them. */
import type { Session } from '../postgres/session.ts';
import { Unpacker, numberOf, redriven } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type PageRow, changeLogSql, weightOf } from './change-log-sql.ts';
import { type Change, changeOf } from './change.ts';
import type { RowShapes } from './row-shapes.ts';
import type { Sink } from './sink.ts';

/** The weight of a page, which ends with the change that reaches it. */
const PAGE = 100;

export class Redriven {
  readonly #session: Session;
  readonly #sink: Sink;
  readonly #shapes: RowShapes | null;
  readonly #names: Names;
  readonly #unpacker = new Unpacker(changeOf);
  /** The changes that were read in this term. One of them comes again only if it has been parked since. */
  readonly #read = new Set<string>();
  /** Whether there may be changes that were redriven since the last reading began. */
  #isTold = true;
  /** The number after which a reading that had no more room goes on. */
  #after: string | null = null;

  constructor(session: Session, names: Names, sink: Sink, shapes: RowShapes | null) {
    this.#shapes = shapes;
    this.#session = session;
    this.#names = names;
    this.#sink = sink;
  }

  /** Whether redriven changes may be there that were not brought. */
  get mayWait(): boolean {
    return this.#isTold || this.#after !== null;
  }

  /** To be called when somebody may have redriven changes. */
  notice(): void {
    this.#isTold = true;
  }

  /** Brings the redriven changes to the sink that were not brought before, as long as there is room: live changes do not wait for it. */
  async read(signal: AbortSignal): Promise<void> {
    const { redriven: page } = changeLogSql(this.#names);
    while (this.#sink.roomApart >= PAGE && !signal.aborted) {
      if (this.#after === null) {
        this.#after = '0';
        this.#isTold = false;
      }
      const changes: Change[] = [];
      let weight = 0;
      await this.#session.eachRow(page, [this.#after, PAGE], (row: PageRow) => {
        this.#unpacker.unpack(row, changes);
        weight += weightOf(row);
      });
      const fresh = changes.filter(({ sequence }) => !this.#read.has(sequence!));
      await this.#shapes?.resolve(fresh);
      for (const { sequence } of fresh) this.#read.add(sequence!);
      this.#sink.push(fresh);
      this.#after = weight < PAGE ? null : changes.at(-1)!.sequence!;
      if (this.#after === null) return;
    }
  }

  /** The number under which the log has the change with this one, or with this sequence without its stamp. */
  numberOf(seq: string): string {
    const number = redriven(numberOf(seq));
    return this.#read.has(number) ? number : seq;
  }

  /** A parked change may be redriven again. */
  forget(number: string): void {
    this.#read.delete(number);
  }
}
