import { describe, expect, test } from 'vitest';
import { type ChangeEvent, toCloudEvent, toDebezium } from '../../src/index.ts';
import { NO_DETAILS } from '../support/no-details.ts';

const event: ChangeEvent = {
  location: 'crm.customers',
  operation: 'update',
  id: '1',
  trigger: 'sales',
  sequence: '10001559033904863123',
  key: { id: '1' },
  occurredAt: '2019-05-28T08:58:24.863123Z',
  transaction: '556',
  fencingToken: '1559033900000000',
  ...NO_DETAILS,
  before: { id: 1, first_name: 'Anne' },
  after: { id: 1, first_name: 'Anne Marie' },
  changed: ['first_name'],
  origin: 'importer',
  context: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01', who: 'anne' },
};
const handmade: ChangeEvent = {
  ...event,
  ...NO_DETAILS,
  operation: 'unknown',
  sequence: null,
  key: null,
  occurredAt: null,
  transaction: null,
};

describe('a CloudEvent', () => {
  test('has the attributes that the specification requires, and the event as data', () => {
    const cloudEvent = toCloudEvent(event, '/databases/sales');
    expect(cloudEvent).toEqual({
      specversion: '1.0',
      id: '10001559033904863123',
      source: '/databases/sales',
      type: 'dapper-postgres-input.update',
      subject: 'crm.customers/1',
      time: '2019-05-28T08:58:24.863123Z',
      datacontenttype: 'application/json',
      partitionkey: '["crm.customers",{"id":"1"}]',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01',
      data: {
        location: 'crm.customers',
        operation: 'update',
        id: '1',
        key: { id: '1' },
        before: { id: 1, first_name: 'Anne' },
        after: { id: 1, first_name: 'Anne Marie' },
        changed: ['first_name'],
        dataOmitted: null,
        transaction: '556',
        origin: 'importer',
        context: event.context,
      },
    });
  });

  test.each([['an event', event] as const, ['a notification that was sent by hand', handmade] as const])(
    'of %s obeys the rules for attributes',
    (_, each) => {
      const cloudEvent = toCloudEvent(each, '/databases/sales');
      for (const attribute of ['id', 'source', 'specversion', 'type'])
        expect(cloudEvent).toHaveProperty(attribute, expect.stringMatching(/./));
      // https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
      const { data, ...attributes } = cloudEvent;
      expect(data).toEqual(expect.any(Object));
      for (const [name, value] of Object.entries(attributes)) {
        expect(name).toMatch(/^[a-z0-9]{1,20}$/);
        expect(value).toEqual(expect.any(String));
      }
      expect(toCloudEvent(each, 's').id === toCloudEvent(each, 's').id).toBe(each.sequence !== null);
    },
  );

  test('has no character in its attributes that the specification forbids', () => {
    const id = 'a\nb\u0085c\uFFFEd\u{1FFFF}e';
    const { subject, partitionkey } = toCloudEvent({ ...event, id, key: { id } }, 's');
    expect(subject).toBe(String.raw`crm.customers/a\u000ab\u0085c\ufffed\u1ffffe`);
    // https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system
    expect(partitionkey).not.toMatch(/[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u);
  });

  test('is refused without a source', () => {
    expect(() => toCloudEvent(event, '')).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }));
  });

  test.each([
    null,
    'text',
    5,
    ['traceparent'],
    { traceparent: 5, tracestate: 'a=b' },
    { traceparent: '', tracestate: 'a=b' },
  ])('has no trace without a traceparent in the context: %s', (context) => {
    const cloudEvent = toCloudEvent({ ...event, context }, 's');
    expect(cloudEvent).not.toHaveProperty('traceparent');
    expect(cloudEvent).not.toHaveProperty('tracestate');
  });
});

describe("a message of Debezium's", () => {
  test('has the members of the update in the documentation of the connector', () => {
    expect(toDebezium(event, 'postgres')).toEqual({
      key: { id: '1' },
      value: {
        before: { id: 1, first_name: 'Anne' },
        after: { id: 1, first_name: 'Anne Marie' },
        source: {
          version: 'dapper-postgres-input',
          connector: 'postgresql',
          name: 'sales',
          ts_ms: 1559033904863,
          ts_us: 1559033904863123,
          snapshot: 'false',
          db: 'postgres',
          schema: 'crm',
          table: 'customers',
          txId: 556,
          sequence: '10001559033904863123',
          lsn: null,
          xmin: null,
        },
        transaction: null,
        op: 'u',
        ts_ms: 1559033904863,
        ts_us: 1559033904863123,
      },
    });
  });

  test.each([
    [{ operation: 'create' }, 'c'],
    [{ operation: 'read' }, 'r'],
    [{ operation: 'delete' }, 'd'],
    // A row may have the id `*`.
    [{ operation: 'delete', id: '*' }, 'd'],
    [{ operation: 'delete', id: '*', key: null }, 't'],
  ] as const)('of %o has the operation %s', (differing, op) => {
    expect(toDebezium({ ...event, ...differing }).value.op).toBe(op);
  });

  test('has the schema public where the location names none, and is a snapshot where the row was there before', () => {
    const { source } = toDebezium({ ...event, location: 'orders', operation: 'read' }).value;
    expect(source).toMatchObject({ schema: 'public', table: 'orders', snapshot: 'true' });
  });

  test('can be made of a notification that was sent by hand if that names an operation', () => {
    expect(() => toDebezium(handmade)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }));
    expect(toDebezium({ ...handmade, operation: 'create' }).value).toMatchObject({ op: 'c', ts_ms: null });
  });
});
