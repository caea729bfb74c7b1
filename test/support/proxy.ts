import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Direction = 'both' | 'to-server' | 'to-client';

/** Which connections: all, one by its place in the order of arrival (0, 1, ...), or those that match. */
export type Which = number | ((connection: Connection) => boolean);

export interface Connection {
  /** Its place in the order of arrival. */
  readonly index: number;
  /** The port that the server sees, as in `pg_stat_activity.client_port`. */
  readonly clientPort: number | undefined;
}

export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** The same URL, through this proxy. */
  url(direct: string): string;
  /** How many connections have come so far, refused ones apart. */
  readonly accepted: number;
  /** Those that are open. */
  readonly connections: readonly Connection[];
  /**
   * From now on no byte and no end passes in that direction, while both sockets stay open, as when a cable is pulled.
   * Without `which`, that holds for connections to come as well: they are accepted and stay silent.
   */
  freeze(direction?: Direction, which?: Which): void;
  /** Everything passes again, first of all what has been held back. */
  thaw(): void;
  /** Resets connections, on both sides. */
  cut(which?: Which): void;
  /** While on, connections to come are refused; those that exist stay. */
  refuse(on: boolean): Promise<void>;
  close(): Promise<void>;
}

/** A TCP proxy that can go wrong in every way a network can. */
export async function startProxy(targetHost: string, targetPort: number): Promise<Proxy> {
  const open = new Set<Link>();
  const frozenForAll = new Set<Pipe['direction']>();
  let accepted = 0;
  let port = 0;
  let listener: Server | undefined;

  function accept(client: Socket): void {
    const server = connect({ host: targetHost, port: targetPort, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    const link = new Link(accepted++, client, server);
    for (const direction of frozenForAll) link.freeze(direction);
    open.add(link);
    link.onceClosed(() => open.delete(link));
  }

  async function listen(): Promise<void> {
    listener = createServer({ allowHalfOpen: true }, accept).listen(port, '127.0.0.1');
    await once(listener, 'listening');
    port = (listener.address() as AddressInfo).port;
  }

  /** Closes the door without waiting for those inside. */
  function unlisten(): void {
    listener?.close();
    listener = undefined;
  }

  function chosen(which: Which | undefined): Link[] {
    if (which === undefined) return [...open];
    const matches = typeof which === 'number' ? (link: Link) => link.index === which : which;
    return [...open].filter(matches);
  }

  await listen();
  const proxy: Proxy = {
    port,
    url(direct) {
      const url = new URL(direct);
      url.host = `127.0.0.1:${port}`;
      return url.href;
    },
    get accepted() {
      return accepted;
    },
    get connections() {
      return [...open];
    },
    freeze(direction = 'both', which) {
      for (const one of direction === 'both' ? (['to-server', 'to-client'] as const) : [direction]) {
        if (which === undefined) frozenForAll.add(one);
        for (const link of chosen(which)) link.freeze(one);
      }
    },
    thaw() {
      frozenForAll.clear();
      for (const link of open) link.thaw();
    },
    cut(which) {
      for (const link of chosen(which)) link.cut();
    },
    async refuse(on) {
      if (on) unlisten();
      else if (!listener) await listen();
    },
    async close() {
      unlisten();
      for (const link of open) link.cut();
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
  return proxy;
}

class Link implements Connection {
  readonly index: number;
  readonly #server: Socket;
  readonly #pipes: Record<Pipe['direction'], Pipe>;
  readonly #client: Socket;

  constructor(index: number, client: Socket, server: Socket) {
    this.index = index;
    this.#client = client;
    this.#server = server;
    this.#pipes = {
      'to-server': new Pipe('to-server', client, server),
      'to-client': new Pipe('to-client', server, client),
    };
  }

  get clientPort(): number | undefined {
    return this.#server.localPort;
  }

  freeze(direction: Pipe['direction']): void {
    this.#pipes[direction].freeze();
  }

  thaw(): void {
    for (const pipe of Object.values(this.#pipes)) pipe.thaw();
  }

  cut(): void {
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
  }

  onceClosed(listener: () => void): void {
    let left = 2;
    for (const socket of [this.#client, this.#server]) {
      socket.once('close', () => --left === 0 && listener());
    }
  }
}

/** One direction of one connection. While it is frozen nothing is read, so that the peer's own buffers fill up. */
class Pipe {
  readonly direction: 'to-server' | 'to-client';
  readonly #source: Socket;
  readonly #target: Socket;
  #frozen = false;
  #heldBack: (() => void)[] = [];

  constructor(direction: Pipe['direction'], source: Socket, target: Socket) {
    this.direction = direction;
    this.#source = source;
    this.#target = target;
    source.on('data', (chunk) => this.#pass(() => this.#forward(chunk)));
    source.on('end', () => this.#pass(() => target.end()));
    source.on('error', () => this.#pass(() => target.resetAndDestroy()));
  }

  freeze(): void {
    this.#frozen = true;
    this.#source.pause();
  }

  thaw(): void {
    this.#frozen = false;
    for (const action of this.#heldBack.splice(0)) action();
    this.#source.resume();
  }

  #pass(action: () => void): void {
    if (this.#frozen) this.#heldBack.push(action);
    else action();
  }

  #forward(chunk: Buffer): void {
    if (this.#target.write(chunk)) return;
    this.#source.pause();
    this.#target.once('drain', () => this.#frozen || this.#source.resume());
  }
}
