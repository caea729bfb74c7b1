/** How a metric grows along a family of scenarios, as lines over two logarithmic axes. */
import { OURS, type Results, WIDTH, escape, heading, nameOf, picture, round, valueOf } from './report.ts';
import type { CurveName, Scenario } from './scenario.ts';

interface Curve {
  readonly title: string;
  readonly axis: string;
  readonly metric: string;
}

const curves: Readonly<Record<CurveName, Curve>> = {
  latency: {
    title: 'Latency from the start of an INSERT to its consumer, over the load',
    axis: 'changes per second',
    metric: 'p50 ms',
  },
  writers: {
    title: 'Rows that are written per second while they are consumed, over the number of writers',
    axis: 'writers',
    metric: 'rows/s',
  },
  tables: {
    title: 'Rows that 16 writers write per second, over the number of watched tables',
    axis: 'tables',
    metric: 'rows/s',
  },
  backlog: {
    title: 'Events per second from a backlog, over its size',
    axis: 'changes that waited',
    metric: 'events/s',
  },
};

const COLOURS = ['#6b7280', '#d97706', '#059669', '#db2777', '#7c3aed', '#0891b2'];
const HEIGHT = 380;
const AREA = { left: 70, right: WIDTH - 190, top: 64, bottom: HEIGHT - 48 };

interface Line {
  readonly name: string;
  readonly points: readonly { at: number; value: number }[];
}

function linesOf(curve: CurveName, all: ReadonlyMap<Scenario, Results>): Line[] {
  const scenarios = [...all].filter(([scenario]) => scenario.point?.curve === curve);
  const names = new Set(scenarios.flatMap(([, results]) => [...results.keys()]));
  return [...names]
    .map((name) => ({
      name,
      points: scenarios
        .filter(([, results]) => results.has(name))
        .map(([{ point }, results]) => ({
          at: point!.at,
          value: valueOf(results, name, curves[curve].metric),
        }))
        .filter(({ value }) => value > 0)
        .toSorted((a, b) => a.at - b.at),
    }))
    .filter(({ points }) => points.length > 0);
}

/** A logarithmic scale whose ends are 1, 2 or 5 times a power of ten. */
function scale(values: readonly number[], from: number, to: number) {
  const steps = Array.from({ length: 60 }, (_, n) => [1, 2, 5][n % 3]! * 10 ** (Math.floor(n / 3) - 6));
  const low = steps.findLast((step) => step <= Math.min(...values)) ?? steps[0]!;
  const high = steps.find((step) => step >= Math.max(...values) && step > low) ?? steps.at(-1)!;
  const ticks = steps.filter((step) => step >= low && step <= high);
  return {
    place: (value: number) => from + ((to - from) * Math.log(value / low)) / Math.log(high / low),
    ticks: ticks.length > 8 ? ticks.filter((tick) => tick.toExponential().startsWith('1')) : ticks,
  };
}

export function curveChart(name: CurveName, all: ReadonlyMap<Scenario, Results>): string {
  const { title, axis, metric } = curves[name];
  const lines = linesOf(name, all);
  const points = lines.flatMap((line) => line.points);
  const x = scale(
    points.map(({ at }) => at),
    AREA.left,
    AREA.right,
  );
  const y = scale(
    points.map(({ value }) => value),
    AREA.bottom,
    AREA.top,
  );
  const grid = [
    ...x.ticks.map((tick) => {
      const at = x.place(tick).toFixed(1);
      return `<line x1="${at}" x2="${at}" y1="${AREA.top}" y2="${AREA.bottom}" stroke="#e5e7eb"/>
<text x="${at}" y="${AREA.bottom + 18}" text-anchor="middle">${round(tick)}</text>`;
    }),
    ...y.ticks.map((tick) => {
      const at = y.place(tick).toFixed(1);
      return `<line x1="${AREA.left}" x2="${AREA.right}" y1="${at}" y2="${at}" stroke="#e5e7eb"/>
<text x="${AREA.left - 8}" y="${Number(at) + 4}" text-anchor="end">${round(tick)}</text>`;
    }),
    `<text x="${(AREA.left + AREA.right) / 2}" y="${HEIGHT - 10}" text-anchor="middle" fill="#4b5563">${escape(axis)}</text>`,
  ];
  const colours = [...COLOURS];
  const drawn = lines.map((line) => {
    const colour = line.name === 'ours' ? OURS : (colours.shift() ?? '#000000');
    const path = line.points
      .map(({ at, value }) => `${x.place(at).toFixed(1)},${y.place(value).toFixed(1)}`)
      .join(' ');
    const dots = path
      .split(' ')
      .map((point) => `<circle cx="${point.replace(',', '" cy="')}" r="3" fill="${colour}"/>`)
      .join('');
    return {
      line,
      colour,
      end: y.place(line.points.at(-1)!.value),
      text: `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots}`,
    };
  });
  // Names stand beside the ends of their lines, one below the other.
  let lowest = -Infinity;
  const names = drawn
    .toSorted((a, b) => a.end - b.end)
    .map(({ line, colour, end }) => {
      lowest = Math.max(end + 4, lowest + 16);
      return `<text x="${AREA.right + 10}" y="${lowest.toFixed(1)}" fill="${colour}">${escape(nameOf(line.name))}</text>`;
    });
  return picture(HEIGHT, [...heading(title, metric), ...grid, ...drawn.map(({ text }) => text), ...names]);
}
