import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface PoolerOptions {
  /** How long a client keeps a backend. Default: `transaction`. */
  mode?: 'transaction' | 'session';
  /** How many backends its clients share. Default: 4. */
  backends?: number;
  /** A second pool of as many backends: clients go to both by turns, as to two poolers behind one address. */
  secondPool?: number;
  /** Which of the idle backends a client is given. Default: the one that has been idle for the longest. */
  reuse?: 'oldest' | 'newest';
  /** Whether it greets with the process id of a backend. Default: false, with a random one, as most poolers do. */
  forwardsPid?: boolean;
}

export interface Pooler extends AsyncDisposable {
  /** The same URL, through this pooler. */
  url(direct: string): string;
}

/** Types of messages: https://www.postgresql.org/docs/current/protocol-message-formats.html */
const [READY, BACKEND_KEY, TERMINATE] = [...Buffer.from('ZKX')];
/** In READY: the session is in no transaction. */
const IDLE = 'I'.charCodeAt(0);

/**
 * A pooler for servers that trust everybody, and for clients that all connect as one role to one database. What a
 * backend says while it works for no client is lost, which is what becomes of notifications.
 */
export async function startPooler(host: string, port: number, options: PoolerOptions = {}): Promise<Pooler> {
  const sockets = new Set<Socket>();
  const opened = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    return socket;
  };
  const openBackend = () => opened(connect({ host, port, noDelay: true }));
  const { backends = 4, secondPool, reuse = 'oldest' } = options;
  const sizes = secondPool === undefined ? [backends] : [backends, secondPool];
  const pools = sizes.map((size) => new Pool(openBackend, size, reuse));
  let clients = 0;
  const listener = createServer({ noDelay: true }, (socket) => {
    serve(opened(socket), pools[clients++ % pools.length]!, options);
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    url(direct) {
      const url = new URL(direct);
      url.host = `127.0.0.1:${(listener.address() as AddressInfo).port}`;
      return url.href;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

class Backend {
  readonly #socket: Socket;
  /** Its answer to the startup message. */
  readonly greeting: Promise<Buffer>;
  /** Where its messages go. */
  onMessage: (message: Buffer, idle: boolean) => void = () => {};

  constructor(socket: Socket, startup: Buffer) {
    this.#socket = socket;
    const greeting: Buffer[] = [];
    let greeted = (_greeting: Buffer) => {};
    this.greeting = new Promise((resolve) => (greeted = resolve));
    onMessages(socket, true, (message) => {
      const idle = message[0] === READY && message[5] === IDLE;
      greeting.push(message);
      if (idle) greeted(Buffer.concat(greeting));
      this.onMessage(message, idle);
    });
    socket.write(startup);
  }

  write(message: Buffer): void {
    this.#socket.write(message);
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

class Pool {
  readonly #open: () => Socket;
  readonly #size: number;
  readonly #reuse: 'oldest' | 'newest';
  readonly #idle: Backend[] = [];
  readonly #waiting: (() => void)[] = [];
  #count = 0;
  #opened: Promise<unknown> = Promise.resolve();

  constructor(open: () => Socket, size: number, reuse: 'oldest' | 'newest') {
    this.#open = open;
    this.#size = size;
    this.#reuse = reuse;
  }

  async take(startup: Buffer): Promise<Backend> {
    // All of them at first, so that they take turns from the first transaction on.
    while (this.#count < this.#size) {
      const backend = new Backend(this.#open(), startup);
      this.#count++;
      this.#opened = Promise.all([this.#opened, backend.greeting.then(() => this.giveBack(backend))]);
    }
    await this.#opened;
    while (this.#idle.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.#reuse === 'oldest' ? this.#idle.shift()! : this.#idle.pop()!;
  }

  giveBack(backend: Backend): void {
    backend.onMessage = () => {};
    this.#idle.push(backend);
    this.#waiting.shift()?.();
  }

  discard(backend: Backend): void {
    backend.destroy();
    this.#count--;
    this.#waiting.shift()?.();
  }
}

function serve(
  client: Socket,
  pool: Pool,
  { mode = 'transaction', forwardsPid = false }: PoolerOptions,
): void {
  let startup = Buffer.alloc(0);
  let backend: Backend | null = null;
  let taking: Promise<void> | null = null;
  let held: Buffer[] = [];

  const take = async (): Promise<void> => {
    const taken = await pool.take(startup);
    if (client.destroyed) return pool.giveBack(taken);
    backend = taken;
    taken.onMessage = (message, idle) => {
      client.write(message);
      if (idle && mode === 'transaction') letGo();
    };
    taking = null;
    for (const message of held) taken.write(message);
    held = [];
  };
  const letGo = (): void => {
    if (backend) pool.giveBack(backend);
    backend = null;
  };
  const greet = async (): Promise<void> => {
    const taken = await pool.take(startup);
    const greeting = Buffer.from(await taken.greeting);
    pool.giveBack(taken);
    if (!forwardsPid) randomiseKey(greeting);
    client.write(greeting);
  };

  onMessages(client, false, (message, isFirst) => {
    if (isFirst) {
      startup = Buffer.from(message);
      void greet();
    } else if (message[0] === TERMINATE) {
      client.end();
    } else if (backend) {
      backend.write(message);
    } else {
      held.push(message);
      taking ??= take();
    }
  });
  client.on('close', () => {
    // It may be in a transaction, and in session mode it has left settings.
    if (backend) pool.discard(backend);
  });
}

function randomiseKey(greeting: Buffer): void {
  for (let at = 0; at < greeting.length; at += 1 + greeting.readUInt32BE(at + 1)) {
    if (greeting[at] !== BACKEND_KEY) continue;
    randomFillSync(greeting, at + 5, greeting.readUInt32BE(at + 1) - 4);
    greeting[at + 5]! &= 0x7f;
  }
}

/**
 * Whole messages: a type of one byte, which a client's first one lacks, and a length that counts itself and what follows
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 */
function onMessages(
  socket: Socket,
  firstIsTyped: boolean,
  handle: (message: Buffer, isFirst: boolean) => void,
): void {
  let held = Buffer.alloc(0);
  let isFirst = true;
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk]);
    for (;;) {
      const type = isFirst && !firstIsTyped ? 0 : 1;
      if (held.length < type + 4) return;
      const size = type + held.readUInt32BE(type);
      if (held.length < size) return;
      const message = held.subarray(0, size);
      held = held.subarray(size);
      const wasFirst = isFirst;
      isFirst = false;
      handle(message, wasFirst);
    }
  });
}
