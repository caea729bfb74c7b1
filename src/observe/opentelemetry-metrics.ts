/** The metrics of an input as instruments of OpenTelemetry: two of the messaging conventions, and one for each number of `metrics()`. */
import type { BatchObservableResult, Counter, Histogram, Meter, Observable } from '@opentelemetry/api';
import type { ChangeEvent } from '../api/change-event.ts';
import type { Metrics } from '../api/status.ts';
import type { PostgresInput } from '../postgres-input.ts';
import { SYSTEM, sharedAttributes } from './opentelemetry-attributes.ts';
import type { EventMeter } from './opentelemetry-traces.ts';

export type MeteredInput = Pick<PostgresInput, 'id' | 'metrics'>;

/** As the conventions advise. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

type Instrument = readonly [name: string, unit: string, description: string];
type Instruments = Readonly<Partial<Record<keyof Metrics, Instrument>>>;
const GAUGES: Instruments = {
  backlog: ['backlog', '{message}', 'Changes that are not acknowledged.'],
  oldestAgeSeconds: [
    'lag',
    's',
    'The age of the oldest change that is not acknowledged; 0 if there is none.',
  ],
  inFlight: ['in_flight', '{message}', 'Events that the consumer has in hand.'],
  retrying: ['retrying', '{message}', 'Events that have failed and come again.'],
  parked: ['parked', '{message}', 'Events that are parked.'],
  blockedKeys: ['blocked_keys', '{key}', 'Keys that wait for the next attempt of an event.'],
};
const COUNTERS: Instruments = {
  handedOut: ['handed_out', '{message}', 'Events that were handed out, also those that came again.'],
  acknowledged: ['acknowledged', '{message}', 'Events that the consumer has acknowledged.'],
  redelivered: ['redelivered', '{message}', 'Events that were handed out once more.'],
  conditionErrors: ['condition_errors', '{statement}', 'Statements for which a condition `when` has failed.'],
};

/**
 * Meters an input, until `end`. Every collection reads the metrics once. If they can't be read, the collection has none of them, and the SDK
 * reports the error.
 */
export class InputMeter implements EventMeter {
  readonly #meter: Meter;
  readonly #input: MeteredInput;
  readonly #consumed: Counter;
  readonly #duration: Histogram;
  readonly #observed: readonly { readonly field: keyof Metrics; readonly instrument: Observable }[];

  constructor(meter: Meter, input: MeteredInput) {
    this.#meter = meter;
    this.#input = input;
    this.#consumed = meter.createCounter('messaging.client.consumed.messages', {
      unit: '{message}',
      description: 'Number of messages that were delivered to the application.',
    });
    this.#duration = meter.createHistogram('messaging.process.duration', {
      unit: 's',
      description: 'Duration of processing operation.',
      advice: { explicitBucketBoundaries: BUCKETS },
    });
    const observed = (
      instruments: Instruments,
      create: 'createObservableGauge' | 'createObservableCounter',
    ) =>
      Object.entries(instruments).map(([field, [name, unit, description]]) => ({
        field: field as keyof Metrics,
        instrument: meter[create](`${SYSTEM}.${name}`, { unit, description }),
      }));
    this.#observed = [
      ...observed(GAUGES, 'createObservableGauge'),
      ...observed(COUNTERS, 'createObservableCounter'),
    ];
    meter.addBatchObservableCallback(this.#observe, this.#instruments);
  }

  end(): void {
    this.#meter.removeBatchObservableCallback(this.#observe, this.#instruments);
  }

  onHandOut(event: ChangeEvent): void {
    this.#consumed.add(1, sharedAttributes(event));
  }

  onEnd(event: ChangeEvent, seconds: number, errorType: string | null): void {
    this.#duration.record(seconds, {
      ...sharedAttributes(event),
      ...(errorType !== null && { 'error.type': errorType }),
    });
  }

  get #instruments(): Observable[] {
    return this.#observed.map(({ instrument }) => instrument);
  }

  readonly #observe = async (result: BatchObservableResult): Promise<void> => {
    const attributes = { 'messaging.system': SYSTEM, 'messaging.consumer.group.name': this.#input.id };
    const found = await this.#input.metrics();
    for (const { field, instrument } of this.#observed)
      result.observe(instrument, found[field] ?? 0, attributes);
  };
}
