import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Pooler extends AsyncDisposable {
  /** The same URL, through this pooler. */
  url(direct: string): string;
}

/** Of a message that says that the session is ready, in no transaction. */
const READY = 'Z'.charCodeAt(0);
const IDLE = 'I'.charCodeAt(0);
const TERMINATE = 'X'.charCodeAt(0);

/**
 * A pooler in transaction mode, for servers that trust everybody: a client's transactions go to two backends by turns. What
 * a backend says while it works for no client is lost, which is what becomes of notifications.
 */
export async function startPooler(host: string, port: number): Promise<Pooler> {
  const open = new Set<Socket>();
  const listener = createServer((client) => {
    const backends = [0, 1].map(() => connect({ host, port, noDelay: true }));
    const sockets = [client, ...backends];
    for (const socket of sockets) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        for (const other of sockets) other.destroy();
      });
    }
    let greeting: Buffer | null = null;
    let working: Socket | null = null;
    let turn = 0;
    for (const backend of backends) {
      onMessages(backend, true, (message) => {
        const isReady = message[0] === READY && message[5] === IDLE;
        if (backend === working) {
          client.write(message);
          if (isReady) working = null;
        } else if (isReady && greeting) {
          // Now the other, whose answer to the greeting is the pooler's.
          working = backends[0]!;
          working.write(greeting);
          greeting = null;
        }
      });
    }
    onMessages(client, false, (message, isFirst) => {
      if (isFirst) {
        greeting = message;
        backends[1]!.write(message);
      } else if (message[0] === TERMINATE) {
        client.end();
      } else {
        working ??= backends[++turn % 2]!;
        working.write(message);
      }
    });
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
      for (const socket of open) socket.destroy();
    },
  };
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
