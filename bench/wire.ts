/**
 * A client that does nothing but write: it sends prepared messages and waits for the server to be ready, so that
 * on a machine that client and server share the server gets nearly all of it. Trust authentication only.
 */
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';

const ERROR = 0x45; // 'E'
const READY = 0x5a; // 'Z'

export class WireClient {
  readonly #socket: Socket;
  #unread: Buffer = Buffer.alloc(0);
  #ready: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #error: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('close', () => this.#ready?.reject(new Error('the server hung up')));
    socket.on('error', () => {});
  }

  static async connect(url: string): Promise<WireClient> {
    const { hostname, port, username, pathname } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const client = new WireClient(socket);
    const settings = `user\0${username}\0database\0${pathname.slice(1)}\0\0`;
    await client.send(Buffer.concat([int32(8 + settings.length), int32(196_608), Buffer.from(settings)]));
    return client;
  }

  /** Sends messages that end with one that makes the server ready again, and waits until it is. */
  send(messages: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#ready = { resolve, reject };
      this.#socket.write(messages);
    });
  }

  #receive(chunk: Buffer): void {
    const data = this.#unread.length > 0 ? Buffer.concat([this.#unread, chunk]) : chunk;
    let at = 0;
    while (data.length - at >= 5) {
      const end = at + 1 + data.readInt32BE(at + 1);
      if (end > data.length) break;
      if (data[at] === ERROR)
        this.#error = new Error(data.toString('utf8', at + 5, end).replaceAll('\0', ' '));
      if (data[at] === READY) this.#settle();
      at = end;
    }
    this.#unread = data.subarray(at);
  }

  #settle(): void {
    const ready = this.#ready;
    const error = this.#error;
    this.#ready = undefined;
    this.#error = undefined;
    if (error) ready?.reject(error);
    else ready?.resolve();
  }

  end(): void {
    this.#socket.end(message('X'));
  }
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

const message = (type: string, ...parts: (string | Buffer)[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
};

const SYNC = message('S');

export const simpleQuery = (sql: string): Buffer => message('Q', `${sql}\0`);

/** Makes a named statement without parameters types told. */
export const prepare = (name: string, sql: string): Buffer =>
  Buffer.concat([message('P', `${name}\0${sql}\0`, Buffer.from([0, 0])), SYNC]);

/** Runs a named statement with one parameter. */
export function execute(name: string, value: string): Buffer {
  const int16 = Buffer.from([0, 1]);
  return Buffer.concat([
    message(
      'B',
      `\0${name}\0`,
      Buffer.from([0, 0]),
      int16,
      int32(Buffer.byteLength(value)),
      value,
      Buffer.from([0, 0]),
    ),
    message('E', '\0', int32(0)),
    SYNC,
  ]);
}
