/** The consuming application, a process of its own: runs one contestant and keeps account of what it delivers. */
import { clock } from './clock.ts';
import type { Consumption, Handlers } from './contestant.ts';
import { contestants } from './contestants/index.ts';

export type ConsumeCommand =
  | { do: 'start'; contestant: string; url: string; timed: boolean; standby?: boolean; handlers?: Handlers }
  | { do: 'report' }
  | { do: 'times'; firstId: number; rows: number }
  | { do: 'stop' };

export interface ConsumeReport {
  delivered: number;
  /** Deliveries of what had been delivered before. */
  repeated: number;
  /** When it was told to begin. */
  startedAt: number;
  firstAt: number;
  lastAt: number;
  /** Of this process, in milliseconds since its start. */
  cpu: number;
  /** Bytes. */
  rss: number;
}

let seen = new Uint8Array(1 << 20);
let times = new Float64Array(0);
let delivered = 0;
let repeated = 0;
let startedAt = 0;
let firstAt = 0;
let lastAt = 0;
let timed = false;
let consumption: Consumption | undefined;

function deliver(id: string | number): void {
  const n = Number(id);
  if (n >= seen.length) {
    const grown = new Uint8Array(Math.max(n + 1, 2 * seen.length));
    grown.set(seen);
    seen = grown;
  }
  if (seen[n]) repeated++;
  else delivered++;
  seen[n] = 1;
  if (firstAt === 0) firstAt = clock();
  if ((delivered & 255) === 0 || timed) lastAt = clock();
  if (!timed) return;
  if (n >= times.length) {
    const grown = new Float64Array(Math.max(n + 1, 2 * times.length));
    grown.set(times);
    times = grown;
  }
  times[n] = lastAt;
}

async function obey(command: ConsumeCommand): Promise<unknown> {
  switch (command.do) {
    case 'start':
      timed = command.timed;
      startedAt = clock();
      {
        const starting = contestants[command.contestant]!.consume(command.url, deliver, command.handlers);
        if (command.standby) void starting.catch(() => {});
        else consumption = await starting;
      }
      return null;
    case 'report': {
      const { user, system } = process.cpuUsage();
      const cpu = (user + system) / 1000;
      return {
        delivered,
        repeated,
        startedAt,
        firstAt,
        lastAt,
        cpu,
        rss: process.memoryUsage.rss(),
      } satisfies ConsumeReport;
    }
    case 'times':
      return [...times.subarray(command.firstId, command.firstId + command.rows)];
    case 'stop':
      await consumption?.stop();
      return null;
    default:
      throw new Error('no such command');
  }
}

process.on('message', (command: ConsumeCommand) => {
  obey(command).then(
    (result) => process.send!({ result }),
    (error: unknown) =>
      process.send!({ error: error instanceof Error ? (error.stack ?? '') : String(error) }),
  );
});
process.on('disconnect', () => process.exit());
process.send!({ result: null });
