/** What tests do with an input: take its events, wait for its states. */
import type { ChangeEvent, HandleOptions, PostgresInput, PostgresInputOptions } from '../../src/index.ts';
import { until } from './until.ts';

/** On a busy machine a connection takes long; no test is about that, unless it sets a timeout of its own. */
export const PATIENT: PostgresInputOptions = { connectTimeout: 15_000 };

/** Takes the events of an input as they come. */
export class Consumer {
  readonly events: ChangeEvent[] = [];
  /** How the iteration ended: with this error, or without. */
  readonly ended: Promise<unknown>;

  constructor(
    input: PostgresInput,
    options: HandleOptions = {},
    each: (event: ChangeEvent) => unknown = () => {},
  ) {
    const events = input.handle(options);
    this.ended = (async () => {
      try {
        for await (const event of events) {
          this.events.push(event);
          await each(event);
        }
        return undefined;
      } catch (error) {
        return error;
      }
    })();
  }

  /** Ids, in the order of arrival. */
  get ids(): string[] {
    return this.events.map(({ id }) => id);
  }

  /** Waits for so many events. */
  async count(count: number, timeoutMs?: number): Promise<void> {
    await until(
      () => this.events.length >= count,
      timeoutMs,
      () => `${this.events.length} of ${count} events`,
    );
  }
}

/** Resolves when the input is in that state. */
export const reaches = (input: PostgresInput, state: PostgresInput['state']): Promise<void> =>
  until(
    () => input.state === state,
    undefined,
    () => `${state}; it is ${input.state}`,
  );

/** Resolves with the next lifecycle event of that name; call it before what causes the event. */
export const once = (input: PostgresInput, name: 'asleep' | 'awake' | 'active' | 'standby'): Promise<void> =>
  new Promise((resolve) => void input.once(name, () => resolve()));
