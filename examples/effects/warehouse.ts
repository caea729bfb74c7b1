/** The receiver of examples/effects.ts: somewhere else, with a memory of its own. */
import { type Server, createServer } from 'node:http';

export class Warehouse {
  /** Orders, as they were shipped. */
  readonly shipped: string[] = [];
  // A real one keeps these two in one transaction with what it ships.
  readonly #keys = new Set<string>();
  #highestToken = 0n;

  receive(key: string, token: bigint, order: string): 'shipped' | 'shipped already' | 'refused' {
    // From a node whose lease is over: whatever it wants, its successor knows better.
    if (token < this.#highestToken) return 'refused';
    this.#highestToken = token;
    if (this.#keys.has(key)) return 'shipped already';
    this.#keys.add(key);
    this.shipped.push(order);
    return 'shipped';
  }
}

const STATUS = { shipped: 201, 'shipped already': 200, refused: 412 };

/** What is between the nodes and the warehouse: it delivers a request, then the answer. */
export type Network = (deliver: () => Promise<() => void>) => Promise<void>;

export function serve(
  warehouse: Warehouse,
  network: Network = async (deliver) => (await deliver())(),
): Server {
  return createServer((request, response) => {
    void network(async () => {
      const { 'idempotency-key': key, 'fencing-token': token } = request.headers;
      const order = (await request.toArray()).join('');
      const outcome = warehouse.receive(String(key), BigInt(String(token)), order);
      return () => void response.writeHead(STATUS[outcome], outcome).end();
    });
  });
}

if (import.meta.filename === process.argv[1]) serve(new Warehouse()).listen(Number(process.argv[2] ?? 8080));
