/**
 * Stands in for the listener of a node that polls. Nobody can tell such a node anything, so it supposes, at short intervals, that another node has
 * said what would make it look: that changes were redriven, or that a backfill was asked for. The looks that follow find out. That a lease
 * was released is found by the standby's own looks.
 */
import type { PostgresInputError } from '../api/errors.ts';
import type { Names } from '../schema/names.ts';
import { type NodeMessage, encodeNodeMessage } from '../schema/node-channel.ts';

const SUPPOSED: readonly NodeMessage[] = [{ kind: 'redriven' }, { kind: 'backfill' }];
const INTERVAL = 1000;

export class Suppositions {
  readonly #timer: NodeJS.Timeout;
  onNotification: (channel: string, payload: string) => void = () => {};
  /** Never called: there is no connection to be lost. */
  onLost: (error: PostgresInputError) => void = () => {};

  constructor({ nodeChannel }: Names) {
    this.#timer = setInterval(() => {
      for (const message of SUPPOSED) this.onNotification(nodeChannel, encodeNodeMessage(message));
    }, INTERVAL);
  }

  keepProcess(isKept: boolean): void {
    this.#timer[isKept ? 'ref' : 'unref']();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
  }
}
