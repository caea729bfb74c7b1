/** Times by cause: percentiles, and a histogram on a scale that doubles from step to step. */
const STEPS = [25, 50, 100, 200, 400, 800, 1600, 3200, 6400, Infinity];

export function printTimes(times: ReadonlyMap<string, readonly number[]>): void {
  const rows = [...times].map(([cause, unsorted]) => {
    const sorted = unsorted.toSorted((a, b) => a - b);
    const percentile = (p: number) => Math.round(sorted[Math.ceil(p * sorted.length) - 1]!);
    const bins = STEPS.map((top, n) => sorted.filter((ms) => ms < top && ms >= (STEPS[n - 1] ?? 0)).length);
    return [
      cause,
      {
        n: sorted.length,
        p50: percentile(0.5),
        p99: percentile(0.99),
        max: percentile(1),
        ...Object.fromEntries(STEPS.map((top, n) => [`<${top}`, bins[n] || ''])),
      },
    ];
  });
  console.table(Object.fromEntries(rows));
}
