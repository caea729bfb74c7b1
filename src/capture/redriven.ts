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

  constructor(session: Session, names: Names, sink: Sink, shapes: RowShapes | null) {
    this.#shapes = shapes;
    this.#session = session;
    this.#names = names;
    this.#sink = sink;
  }

  /** Brings the redriven changes to the sink that were not brought before. Returns their number. */
  async readAll(signal: AbortSignal): Promise<number> {
    const { redriven: page } = changeLogSql(this.#names);
    let found = 0;
    for (let after = '0'; ;) {
      await this.#sink.waitForRoom(PAGE, signal);
      if (signal.aborted) return found;
      const changes: Change[] = [];
      let weight = 0;
      await this.#session.eachRow(page, [after, PAGE], (row: PageRow) => {
        this.#unpacker.unpack(row, changes);
        weight += weightOf(row);
      });
      const fresh = changes.filter(({ sequence }) => !this.#read.has(sequence!));
      await this.#shapes?.resolve(fresh);
      for (const { sequence } of fresh) this.#read.add(sequence!);
      this.#sink.push(fresh);
      found += fresh.length;
      if (weight < PAGE) return found;
      after = changes.at(-1)!.sequence!;
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
