import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { whenThisProcessDies } from './guard.ts';

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface NodeProcess<Message> extends AsyncDisposable {
  readonly pid: number;
  /** Waits for a message that matches, and takes it; other messages stay for whoever waits for them. */
  waitFor(matches: (message: Message) => boolean, timeoutMs?: number): Promise<Message>;
  /** Takes every message, in order, until the process exits. */
  readonly messages: AsyncIterable<Message>;
  /** The child gets it by `process.on('message', ...)`. */
  send(message: unknown): void;
  signal(signal: NodeJS.Signals): void;
  readonly exited: Promise<Exit>;
  /** What it has written to stdout and stderr so far. */
  output(): string;
}

const tsx = import.meta.resolve('tsx');

/**
 * Runs a TypeScript file in a Node process of its own; it speaks by `process.send(message)`. It is killed on dispose,
 * or when this process dies.
 */
export function spawnNode<Message = any>(
  file: string | URL,
  options: { args?: string[]; env?: NodeJS.ProcessEnv } = {},
): NodeProcess<Message> {
  const path = file instanceof URL ? fileURLToPath(file) : file;
  const child = spawn(process.execPath, ['--import', tsx, path, ...(options.args ?? [])], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`cannot run ${path}`);
  const guard = whenThisProcessDies('kill -KILL "$1"', String(pid));
  let output = '';
  const mailbox = new Mailbox<Message>(() => output);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  child.on('message', (message) => mailbox.put(message as Message));
  child.on('error', () => {}); // a message sent to a process that has just exited
  const exited = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => {
      guard.cancel();
      mailbox.close(new Error(`${path} exited (${signal ?? code}):\n${output}`));
      resolve({ code, signal });
    });
  });

  return {
    pid,
    exited,
    messages: mailbox,
    waitFor: (matches, timeoutMs = 15_000) => mailbox.take(matches, timeoutMs),
    send: (message) => void child.send(message as object),
    signal: (signal) => void child.kill(signal),
    output: () => output,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

interface Waiter<Message> {
  matches(message: Message): boolean;
  resolve(message: Message): void;
  reject(error: Error): void;
}

/** Messages that nobody has taken yet, and those who wait for one. */
class Mailbox<Message> implements AsyncIterable<Message> {
  readonly #messages: Message[] = [];
  readonly #waiters = new Set<Waiter<Message>>();
  readonly #output: () => string;
  #closed: Error | undefined;

  constructor(output: () => string) {
    this.#output = output;
  }

  put(message: Message): void {
    for (const waiter of this.#waiters) {
      if (!waiter.matches(message)) continue;
      this.#waiters.delete(waiter);
      return waiter.resolve(message);
    }
    this.#messages.push(message);
  }

  close(reason: Error): void {
    this.#closed = reason;
    for (const waiter of this.#waiters) waiter.reject(reason);
  }

  async take(matches: Waiter<Message>['matches'], timeoutMs?: number): Promise<Message> {
    const index = this.#messages.findIndex(matches);
    if (index >= 0) return this.#messages.splice(index, 1)[0] as Message;
    if (this.#closed) throw this.#closed;

    let timer: NodeJS.Timeout | undefined;
    const taken = new Promise<Message>((resolve, reject) => {
      const waiter = { matches, resolve, reject };
      this.#waiters.add(waiter);
      if (timeoutMs === undefined) return;
      timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        const others = JSON.stringify(this.#messages);
        reject(new Error(`no such message within ${timeoutMs} ms; left over: ${others}\n${this.#output()}`));
      }, timeoutMs);
    });
    return taken.finally(() => clearTimeout(timer));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message> {
    while (this.#messages.length > 0 || !this.#closed) {
      try {
        yield await this.take(() => true);
      } catch {
        return; // it has exited
      }
    }
  }
}
