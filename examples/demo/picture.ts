/**
 * `npm run demo:picture`: runs the demo, and draws its lines as an animated SVG, each at the time at which the demo printed the line.
 *
 * The picture is one still text whose lines appear one after the other, by CSS alone: GitHub shows an SVG as an image, without scripts.
 * A reader who prefers reduced motion sees all lines at once. The background is the picture's own, so that light and dark pages both suit.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

/** How long nothing may happen in the picture, such as while the server starts, in seconds. */
const LONGEST_GAP = 1;
/** How long the last line stays before the picture begins anew, in seconds. */
const REST = 7;
const [SIZE, LEADING, MARGIN] = [13, 18, 16];
/** Of a character, as fonts of fixed width have it. Each run of text is stretched to it, whatever the font. */
const WIDTH = SIZE * 0.6;
const COLOURS: Readonly<Record<string, string>> = { 1: 'b', 2: 'd', 31: 'r', 32: 'g', 33: 'y' };

interface Line {
  /** Seconds after the first line. */
  readonly at: number;
  readonly runs: readonly Run[];
}

interface Run {
  readonly text: string;
  readonly column: number;
  readonly classes: readonly string[];
}

const [path = 'docs/demo.svg'] = process.argv.slice(2);
const lines = await record();
await writeFile(path, draw(lines));
console.log(`${path}: ${lines.length} lines, ${lines.at(-1)!.at.toFixed(1)} s`);

async function record(): Promise<Line[]> {
  const demo = spawn(process.execPath, ['--import', 'tsx', new URL('../demo.ts', import.meta.url).pathname], {
    env: { ...process.env, FORCE_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(demo, 'exit');
  const lines: Line[] = [];
  let at = 0;
  let last: number | undefined;
  for await (const text of createInterface({ input: demo.stdout })) {
    const now = performance.now();
    at += Math.min((now - (last ?? now)) / 1000, LONGEST_GAP);
    last = now;
    lines.push({ at, runs: runsOf(text) });
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`the demo ended with exit code ${code}: no picture`);
  return lines;
}

/** Parts a line at its colours and gaps. */
function runsOf(line: string): Run[] {
  const runs: Run[] = [];
  const classes = new Set<string>();
  let column = 0;
  // oxlint-disable-next-line no-control-regex -- Colours are control characters.
  for (const part of line.split(/(\x1b\[\d+m)/)) {
    // oxlint-disable-next-line no-control-regex
    const code = /^\x1b\[(\d+)m$/.exec(part)?.[1];
    if (code === undefined) {
      // Spaces in a row would be drawn as one: the words between them are runs of their own.
      for (const { 0: text, index } of part.matchAll(/\S+(?: \S+)*/g))
        runs.push({ text, column: column + index, classes: [...classes] });
      column += part.length;
    } else if (COLOURS[code]) classes.add(COLOURS[code]);
    else if (code === '22') for (const weight of ['b', 'd']) classes.delete(weight);
    else classes.clear();
  }
  return runs;
}

function draw(lines: readonly Line[]): string {
  const columns = Math.max(
    ...lines.flatMap(({ runs }) => runs.map(({ column, text }) => column + text.length)),
  );
  const [width, height] = [Math.ceil(columns * WIDTH) + 2 * MARGIN, lines.length * LEADING + 2 * MARGIN];
  const length = lines.at(-1)!.at + REST;
  const shown = lines.filter(({ runs }) => runs.length > 0);
  const frames = shown.map(({ at }, index) => {
    const share = ((at / length) * 100).toFixed(2);
    return at === 0
      ? ''
      : `@keyframes l${index}{0%{opacity:0}${share}%{opacity:1}}#l${index}{animation-name:l${index}}\n`;
  });
  const texts = shown.map((line, index) => {
    const y = MARGIN + (lines.indexOf(line) + 0.75) * LEADING;
    const runs = line.runs.map(({ text, column, classes }) => {
      const kind = classes.length > 0 ? ` class="${classes.join(' ')}"` : '';
      const room = (text.length * WIDTH).toFixed(1);
      return `<tspan x="${(MARGIN + column * WIDTH).toFixed(1)}" textLength="${room}"${kind}>${escape(text)}</tspan>`;
    });
    return `<text id="l${index}" y="${y}">${runs.join('')}</text>\n`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>npm run demo: three replicas, one is killed, one is stopped, and no change is lost</title>
<style>
text{font:${SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;fill:#d6deeb;animation:${length.toFixed(2)}s step-end infinite}
.d{fill:#8a97ab}.g{fill:#5fd787}.r{fill:#ff7b72}.y{fill:#f2cc60}.b{font-weight:bold}
@media(prefers-reduced-motion:reduce){text{animation:none!important}}
${frames.join('')}</style>
<rect width="100%" height="100%" rx="8" fill="#0f1720"/>
${texts.join('')}</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
