import type { Lab } from './lab.ts';

/** What one contestant did in one round: numbers by name. */
export type Metrics = Record<string, number>;

export interface Scenario {
  /** By which it is chosen on the command line. */
  readonly key: string;
  readonly title: string;
  readonly contestants: readonly string[];
  /** Whose numbers the others' are divided by. */
  readonly baseline: string;
  /** How many rounds there are at least; more follow until the medians of the metric that is drawn have settled. */
  readonly rounds: number;
  /** Whether it takes so long that it is left out unless `--only` names it. */
  readonly isOptional?: boolean;
  /** The metric that is drawn. */
  readonly chart?: string;
  /** The scenario's point on a curve of its family. */
  readonly point?: Point;
  run(lab: Lab, contestant: string): Promise<Metrics>;
}

/** A curve shows how a metric grows. */
export interface Point {
  readonly curve: CurveName;
  /** On the horizontal axis. */
  readonly at: number;
}

export type CurveName = 'latency' | 'writers' | 'tables' | 'backlog';

/** The value below which a share of the ascending ones lie. */
export const quantile = (ascending: readonly number[], share: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? NaN;

export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  return (sorted[Math.floor((sorted.length - 1) / 2)]! + sorted[Math.floor(sorted.length / 2)]!) / 2;
}

export const ascending = (values: Iterable<number>): number[] => [...values].toSorted((a, b) => a - b);

/**
 * How well the median of these values is known, as a share of it: its standard error, estimated from the quartiles so that one
 * round in which the machine did something else does not count. NaN for fewer than three values.
 */
export function uncertainty(values: readonly number[]): number {
  if (values.length < 3) return NaN;
  const sorted = ascending(values);
  const range = quantile(sorted, 0.75) - quantile(sorted, 0.25);
  // For a normal distribution, the range between the quartiles is 1.35 standard deviations; the median's error is 1.25 of the mean's.
  return ((range / 1.35) * 1.25) / Math.sqrt(values.length) / Math.abs(median(values));
}
