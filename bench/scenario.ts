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
  readonly rounds: number;
  /** The metric that is drawn. */
  readonly chart?: string;
  run(lab: Lab, contestant: string): Promise<Metrics>;
}

/** The value below which a share of the ascending ones lie. */
export const quantile = (ascending: readonly number[], share: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? NaN;

export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  return (sorted[Math.floor((sorted.length - 1) / 2)]! + sorted[Math.floor(sorted.length / 2)]!) / 2;
}

export const ascending = (values: Iterable<number>): number[] => [...values].toSorted((a, b) => a - b);
