/** Reads the rows that the table holds: as events of ours, and by hand, as those do who begin with a copy and go on with a replication slot. */
import pg from 'pg';
import { newPostgresInput } from '../../src/index.ts';
import type { Consumption, Contestant } from '../contestant.ts';
import { ours } from './ours.ts';

export const oursBackfill: Contestant = {
  ...ours,
  name: "dapper-postgres-input, backfill(), rows: 'after'",
  async consume(url, deliver): Promise<Consumption> {
    const config = { name: 'bench', type: 'postgres', connectionString: url };
    const input = await newPostgresInput(config, { connectTimeout: 5000, rows: 'after' });
    const consume = async () => {
      for await (const event of input.handle()) deliver(event.id);
    };
    const done = consume();
    await input.backfill();
    return {
      async stop() {
        await input.close();
        await done;
      },
    };
  },
};

type Read = (client: pg.Client, deliver: (id: string) => void, isStopped: () => boolean) => Promise<void>;

/** A connection that reads everything once. */
const byHand = (name: string, read: Read): Contestant => ({
  name,
  by: 'nothing',
  durable: false,
  install: async () => {},
  async consume(url, deliver): Promise<Consumption> {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    let isStopped = false;
    const done = read(client, deliver, () => isStopped);
    return {
      async stop() {
        isStopped = true;
        await done;
        await client.end();
      },
    };
  },
});

const PAGE = 2000;

export const pgPages = byHand('pg, pages by the key', async (client, deliver, isStopped) => {
  const text = `SELECT * FROM item WHERE id > $1 ORDER BY id LIMIT ${PAGE}`;
  for (let last = '0'; !isStopped();) {
    const { rows } = await client.query<{ id: string }>({ name: 'page', text, values: [last] });
    for (const { id } of rows) deliver(id);
    if (rows.length < PAGE) return;
    last = rows.at(-1)!.id;
  }
});

interface CopyConnection {
  query(text: string): void;
}

/** What pg asks of a query that it does not know. */
class CopyOut {
  readonly #text: string;
  readonly #onRow: (line: string) => void;
  readonly #end: (error?: Error) => void;
  #error: Error | undefined;

  constructor(text: string, onRow: (line: string) => void, end: (error?: Error) => void) {
    this.#text = text;
    this.#onRow = onRow;
    this.#end = end;
  }

  submit(connection: CopyConnection): void {
    connection.query(this.#text);
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    this.#onRow(chunk.toString('utf8', 0, chunk.length - 1));
  }

  handleCommandComplete(): void {}

  handleError(error: Error): void {
    this.#error = error;
  }

  handleReadyForQuery(): void {
    this.#end(this.#error);
  }
}

export const pgCopy = byHand('COPY table TO STDOUT', (client, deliver) => {
  const { promise, resolve, reject } = withResolvers();
  const onRow = (line: string) => {
    const [id] = line.split('\t');
    deliver(id!);
  };
  const copy = new CopyOut('COPY item TO STDOUT', onRow, (error) => (error ? reject(error) : resolve()));
  client.query(copy as unknown as pg.Submittable);
  return promise;
});

function withResolvers() {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((...settle) => ([resolve, reject] = settle));
  return { promise, resolve, reject };
}
