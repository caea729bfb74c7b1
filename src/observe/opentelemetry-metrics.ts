/** The metrics of an input as instruments of OpenTelemetry: two of the messaging conventions, and one for each number of `metrics()`. */
import type { BatchObservableResult, Meter } from '@opentelemetry/api';
import type { Metrics } from '../api/status.ts';
import type { PostgresInput } from '../postgres-input.ts';
import { SYSTEM, sharedAttributes } from './opentelemetry-attributes.ts';
import type { EventMeter } from './opentelemetry-traces.ts';

export type MeteredInput = Pick<PostgresInput, 'id' | 'metrics'>;

/** As the conventions advise. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

type Instrument = readonly [name: string, unit: string, description: string];
const GAUGES: Readonly<Partial<Record<keyof Metrics, Instrument>>> = {
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
const COUNTERS: Readonly<Partial<Record<keyof Metrics, Instrument>>> = {
  handedOut: ['handed_out', '{message}', 'Events that were handed out, also those that came again.'],
  acknowledged: ['acknowledged', '{message}', 'Events that the consumer has acknowledged.'],
  redelivered: ['redelivered', '{message}', 'Events that were handed out once more.'],
  conditionErrors: ['condition_errors', '{statement}', 'Statements for which a condition `when` has failed.'],
};

/**
 * Meters an input, until `end`. Every collection reads the metrics once. If they can't be read, the collection has none of them, and the SDK
 * reports the error.
 */
export function meterInput(meter: Meter, input: MeteredInput): EventMeter & { end(): void } {
  const consumed = meter.createCounter('messaging.client.consumed.messages', {
    unit: '{message}',
    description: 'Number of messages that were delivered to the application.',
  });
  const duration = meter.createHistogram('messaging.process.duration', {
    unit: 's',
    description: 'Duration of processing operation.',
    advice: { explicitBucketBoundaries: BUCKETS },
  });
  const instrumentsOf = (
    instruments: typeof GAUGES,
    create: 'createObservableGauge' | 'createObservableCounter',
  ) =>
    Object.entries(instruments).map(([field, [name, unit, description]]) => ({
      field: field as keyof Metrics,
      instrument: meter[create](`${SYSTEM}.${name}`, { unit, description }),
    }));
  const observed = [
    ...instrumentsOf(GAUGES, 'createObservableGauge'),
    ...instrumentsOf(COUNTERS, 'createObservableCounter'),
  ];
  const attributes = { 'messaging.system': SYSTEM, 'messaging.consumer.group.name': input.id };
  const observe = async (result: BatchObservableResult) => {
    const found = await input.metrics();
    for (const { field, instrument } of observed) result.observe(instrument, found[field] ?? 0, attributes);
  };
  const instruments = observed.map(({ instrument }) => instrument);
  meter.addBatchObservableCallback(observe, instruments);
  return {
    onHandOut: (event) => consumed.add(1, sharedAttributes(event)),
    onEnd: (event, seconds, errorType) =>
      duration.record(seconds, {
        ...sharedAttributes(event),
        ...(errorType !== null && { 'error.type': errorType }),
      }),
    end: () => meter.removeBatchObservableCallback(observe, instruments),
  };
}
