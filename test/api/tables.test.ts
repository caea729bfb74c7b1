/** What the type argument `Tables` does. It is tsc that checks these tests; nothing happens when they run. */
import { describe, expectTypeOf, test } from 'vitest';
import {
  type ChangeEvent,
  type Event,
  type Input,
  type NewInputFunc,
  type Operation,
  type ParkedEvent,
  type PostgresInput,
  type ProcessOptions,
  type Row,
  newPostgresInput,
  toCloudEvent,
  toDebezium,
} from '../../src/index.ts';

interface Order {
  id: number;
  status: 'new' | 'paid' | 'shipped';
  total: string | null;
}
interface Note {
  id: string;
  text: string;
}
interface Tables {
  orders: Order;
  'crm.notes': Note;
}
type Of<Location, Kind extends Operation> = Extract<
  ChangeEvent<Tables>,
  { location: Location; operation: Kind }
>;

declare const event: ChangeEvent<Tables>;
declare const parked: ParkedEvent<Tables>;

/** Code that is type-checked and never runs. */
const never = (_code: () => unknown): void => {};

describe('an event of typed tables', () => {
  test('narrows its row by location and operation', () => {
    never(() => {
      if (event.location === 'orders' && event.operation === 'update') {
        expectTypeOf(event.after!.status).toEqualTypeOf<Order['status']>();
        expectTypeOf(event.before).toEqualTypeOf<Order | null>();
        expectTypeOf(event.after).toEqualTypeOf<Order | null>();
        expectTypeOf(event.changed).toEqualTypeOf<readonly ('id' | 'status' | 'total')[] | null>();
      }
      if (event.operation === 'delete' && event.location === 'crm.notes') {
        expectTypeOf(event.before).toEqualTypeOf<Note | null>();
        expectTypeOf(event.after).toEqualTypeOf<null>();
        expectTypeOf(event.changed).toEqualTypeOf<null>();
      }
    });
  });

  test('has the sides of the row that its operation has', () => {
    never(() => {
      switch (event.operation) {
        case 'create':
        case 'read':
          expectTypeOf(event.before).toEqualTypeOf<null>();
          expectTypeOf(event.after).toEqualTypeOf<Order | Note | null>();
          expectTypeOf(event.changed).toEqualTypeOf<null>();
          break;
        case 'update':
          expectTypeOf(event.before).toEqualTypeOf<Order | Note | null>();
          break;
        case 'delete':
          expectTypeOf(event.before).toEqualTypeOf<Order | Note | null>();
          expectTypeOf(event.after).toEqualTypeOf<null>();
          break;
        case 'unknown':
          expectTypeOf(event.before).toEqualTypeOf<null>();
          expectTypeOf(event.after).toEqualTypeOf<null>();
          break;
        default:
          expectTypeOf(event).toEqualTypeOf<never>();
      }
    });
  });

  test('narrows when it is destructured', () => {
    never(() => {
      const { location, operation, after } = event;
      if (location === 'crm.notes' && operation === 'create') {
        expectTypeOf(after).toEqualTypeOf<Note | null>();
      }
    });
  });

  test('is of the tables that there are, and of no others', () => {
    never(() => {
      expectTypeOf(event.location).toEqualTypeOf<'orders' | 'crm.notes'>();
      expectTypeOf(event.operation).toEqualTypeOf<Operation>();
      // @ts-expect-error There is no such table.
      if (event.location === 'invoices') return;
      if (event.location !== 'orders' || event.operation !== 'update') return;
      // @ts-expect-error A row may be missing.
      void event.after.status;
      // @ts-expect-error There is no such column.
      void event.after?.colour;
      // @ts-expect-error There is no such column.
      void event.changed?.includes('colour');
    });
    // @ts-expect-error The rows of a table have columns.
    expectTypeOf<ChangeEvent<{ orders: string }>>();
  });

  test('is a ChangeEvent, so that what takes any event takes it', () => {
    expectTypeOf<ChangeEvent<Tables>>().toExtend<ChangeEvent>();
    expectTypeOf<ChangeEvent<Tables>>().toExtend<Event>();
    never(() => [toCloudEvent(event, '/shop'), toDebezium(event)]);
  });

  test('is narrowed when it is parked, too', () => {
    expectTypeOf<ParkedEvent<Tables>>().toExtend<ChangeEvent<Tables>>();
    expectTypeOf<ParkedEvent<Tables>>().toExtend<ParkedEvent>();
    never(() => {
      if (parked.location === 'crm.notes' && parked.operation === 'read')
        expectTypeOf(parked.after).toEqualTypeOf<Note | null>();
      expectTypeOf(parked.attempts).toEqualTypeOf<number>();
    });
  });

  test('carries the type of each row as a query builder would have it', () => {
    expectTypeOf<NonNullable<Of<'orders', 'update'>['after']>>().toEqualTypeOf<Order>();
  });
});

type Digit = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
/** t000 to t199, each with a column of its own. */
type TwoHundred = {
  [Location in `t${0 | 1}${Digit}${Digit}`]: { id: number; kind: Location } & Record<
    `${Location}_column`,
    string
  >;
};

describe('an input of two hundred tables', () => {
  test('narrows its events, and is a PostgresInput', () => {
    expectTypeOf<PostgresInput<TwoHundred>>().toExtend<PostgresInput>();
    expectTypeOf<ChangeEvent<TwoHundred>>().toExtend<ChangeEvent>();
    never(async (input: PostgresInput<TwoHundred> = undefined!) => {
      for await (const { location, operation, after, before } of input.handle()) {
        if (operation === 'create' && location === 't150') {
          expectTypeOf(after!.kind).toEqualTypeOf<'t150'>();
          expectTypeOf(after!.t150_column).toEqualTypeOf<string>();
        }
        if (location === 't007') expectTypeOf(before?.kind).toEqualTypeOf<'t007' | undefined>();
      }
    });
  });
});

describe('an input of typed tables', () => {
  const config = { name: 'shop', type: 'postgres', connectionString: '' };

  test('hands out typed events', () => {
    never(async () => {
      const input = await newPostgresInput<Tables>(config, { rows: 'both' });
      expectTypeOf(input).toEqualTypeOf<PostgresInput<Tables>>();
      for await (const each of input.handle()) {
        expectTypeOf(each).toEqualTypeOf<ChangeEvent<Tables>>();
        await input.ack(each);
      }
      expectTypeOf(await input.parked()).toEqualTypeOf<ParkedEvent<Tables>[]>();
    });
  });

  test('processes typed events, and takes keys of them', () => {
    never(async () => {
      const input = await newPostgresInput<Tables>(config, { rows: 'both' });
      const options: ProcessOptions<Tables> = {
        key: (each) => {
          expectTypeOf(each).toEqualTypeOf<ChangeEvent<Tables>>();
          return each.location === 'orders' ? String(each.after?.id) : 'notes';
        },
      };
      await input.process((each, { signal }) => {
        expectTypeOf(each).toEqualTypeOf<ChangeEvent<Tables>>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
      }, options);
      await input.process(() => {}, {
        key: (each) => {
          expectTypeOf(each).toEqualTypeOf<ChangeEvent<Tables>>();
          return each.id;
        },
      });
      // @ts-expect-error There is no such column.
      await input.process(() => {}, { key: ({ after }) => String(after?.colour) });
    });
    // Options that were written for any tables still fit.
    expectTypeOf<ProcessOptions>().toExtend<ProcessOptions<Tables>>();
  });

  test('is an Input, and a PostgresInput', () => {
    expectTypeOf<PostgresInput<Tables>>().toExtend<Input>();
    expectTypeOf<PostgresInput<Tables>>().toExtend<PostgresInput>();
  });

  test('is made by a NewInputFunc, with the type argument and without', () => {
    expectTypeOf(newPostgresInput<Tables>).toExtend<NewInputFunc>();
    expectTypeOf(newPostgresInput).toExtend<NewInputFunc>();
  });
});

describe('without a type argument', () => {
  test('rows have any columns, and every location and operation may come', () => {
    never(async () => {
      const input = await newPostgresInput({ name: 'shop', type: 'postgres', connectionString: '' });
      expectTypeOf(input).toEqualTypeOf<PostgresInput>();
      for await (const each of input.handle()) expectTypeOf(each).toEqualTypeOf<ChangeEvent>();
    });
    expectTypeOf<ChangeEvent['after']>().toEqualTypeOf<Row | null>();
    expectTypeOf<ChangeEvent['location']>().toEqualTypeOf<string>();
  });

  test('code that was written before there was one compiles', () => {
    interface Mine extends ChangeEvent {
      mine: string;
    }
    expectTypeOf<Mine['sequence']>().toEqualTypeOf<string | null>();
    expectTypeOf<Awaited<ReturnType<typeof newPostgresInput>>>().toExtend<PostgresInput>();
    expectTypeOf<PostgresInput>().toExtend<Awaited<ReturnType<typeof newPostgresInput>>>();
    never(() => {
      type Handed = ReturnType<Awaited<ReturnType<typeof newPostgresInput>>['handle']>;
      expectTypeOf<Handed>().toExtend<AsyncIterableIterator<ChangeEvent>>();
      expectTypeOf<AsyncIterableIterator<ChangeEvent>>().toExtend<Handed>();
    });
  });
});
