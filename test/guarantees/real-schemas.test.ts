import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { setupTwoDatabases } from '../support/setup-two-databases.ts';

/** Statements, and what each is to bring: events, or, where it is to be refused, part of a message. */
type Workload = (readonly [sql: string, result: readonly string[] | string])[];

const major = Number(process.env['TEST_PG_MAJOR'] || 18);

const pagila: Workload = [
  [
    "INSERT INTO customer (store_id, first_name, last_name, address_id) VALUES (2, 'BARBARA', 'JONES', 2) RETURNING customer_id",
    ['customer create 4'],
  ],
  // A rental and its payment, in one transaction.
  [
    `BEGIN;
     INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id)
     SELECT '2022-03-01 12:00:00+00', min(inventory_id), 4, 2 FROM inventory WHERE film_id = 1 AND inventory_in_stock(inventory_id)
     RETURNING rental_id, inventory_id;
     INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES (4, 2, 3, 4.99, '2022-03-01 12:00:00+00');
     COMMIT`,
    ['payment create ["2022-03-01 12:00:00+00","3"]', 'rental create 3'],
  ],
  [
    "UPDATE rental SET return_date = '2022-03-05 09:00:00+00' WHERE return_date IS NULL",
    ['rental update 2', 'rental update 3'],
  ],
  ["SELECT get_customer_balance(4, '2022-12-01'), inventory_in_stock(1)", []],
  // Partitions: a row that moves to another one, writes that go to one directly, one that there is not, a new one.
  [
    "UPDATE payment SET payment_date = payment_date + interval '31 days' WHERE rental_id = 1",
    ['payment create ["2022-02-10 10:00:00+00","1"]', 'payment delete ["2022-01-10 10:00:00+00","1"]'],
  ],
  [
    'UPDATE payment_p2022_02 SET amount = amount + 1 RETURNING amount',
    ['payment update ["2022-02-10 10:00:00+00","1"]', 'payment update ["2022-02-20 11:30:00.123456+00","2"]'],
  ],
  [
    "INSERT INTO payment_p2022_01 (customer_id, staff_id, rental_id, amount, payment_date) VALUES (1, 1, 1, 1, '2022-01-31 23:59:59.999999+00')",
    ['payment create ["2022-01-31 23:59:59.999999+00","4"]'],
  ],
  [
    "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES (1, 1, 1, 1, '2023-01-01')",
    'no partition',
  ],
  [
    `CREATE TABLE payment_p2022_04 PARTITION OF payment FOR VALUES FROM ('2022-04-01 00:00:00+00') TO ('2022-05-01 00:00:00+00');
     INSERT INTO payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date)
     VALUES (40, 1, 1, 1, 1, '2022-04-02 00:00:00+00'), (41, 2, 1, 2, 1, '2022-02-02 00:00:00+00')`,
    ['payment create ["2022-02-02 00:00:00+00","41"]', 'payment create ["2022-04-02 00:00:00+00","40"]'],
  ],
  [
    'DELETE FROM payment WHERE payment_id > 39',
    ['payment delete ["2022-02-02 00:00:00+00","41"]', 'payment delete ["2022-04-02 00:00:00+00","40"]'],
  ],
  // Rules of reference: a new key that cascades, a deletion that is refused.
  [
    'UPDATE film SET film_id = 101 WHERE film_id = 1',
    [
      'film create 101',
      'film delete 1',
      'film_actor create ["1","101"]',
      'film_actor create ["2","101"]',
      'film_actor delete ["1","1"]',
      'film_actor delete ["2","1"]',
      'film_category create ["101","1"]',
      'film_category delete ["1","1"]',
      'inventory update 1',
      'inventory update 2',
    ],
  ],
  ['DELETE FROM film WHERE film_id = 2', 'foreign key constraint'],
  // The application's own triggers, its domain, its views.
  [
    "UPDATE film SET description = 'A tale of databases', rating = 'PG-13' WHERE film_id = 3 RETURNING fulltext, rating",
    ['film update 3'],
  ],
  ['UPDATE film SET release_year = 1800', 'year_check'],
  ["UPDATE customer_list SET name = 'x'", 'cannot update'],
  ['REFRESH MATERIALIZED VIEW rental_by_category', []],
  ['SELECT * FROM film_list ORDER BY fid; SELECT * FROM customer_list ORDER BY id', []],
  // Conflicts, statements within statements, transactions taken back.
  [
    'INSERT INTO film_actor (actor_id, film_id) VALUES (1, 3), (3, 3) ON CONFLICT DO NOTHING RETURNING film_id',
    ['film_actor create ["3","3"]'],
  ],
  [
    'INSERT INTO film_actor (actor_id, film_id) VALUES (1, 3), (2, 3) ON CONFLICT (actor_id, film_id) DO UPDATE SET last_update = now()',
    ['film_actor create ["2","3"]', 'film_actor update ["1","3"]'],
  ],
  [
    `WITH gone AS (DELETE FROM film_category WHERE film_id = 3 RETURNING film_id)
     INSERT INTO film_category (film_id, category_id) SELECT film_id, 1 FROM gone`,
    ['film_category create ["3","1"]', 'film_category delete ["3","2"]'],
  ],
  ['BEGIN; UPDATE customer SET active = 0; ROLLBACK', []],
  [
    'BEGIN; UPDATE customer SET active = 2 WHERE customer_id = 1; SAVEPOINT s; DELETE FROM payment; ROLLBACK TO s; COMMIT',
    ['customer update 1'],
  ],
  ['TRUNCATE payment', ['payment delete *']],
];

const chinook: Workload = [
  [`INSERT INTO "Artist" VALUES (4, 'Antônio Carlos Jobim')`, ['Artist create 4']],
  [
    `BEGIN;
     INSERT INTO "Album" VALUES (3, 'Warner 25 Anos', 4);
     INSERT INTO "Track" SELECT 3 + n, 'Desafinado ' || n, 3, 1, 2, NULL, 185338, NULL, 0.99 FROM generate_series(1, 3) n;
     COMMIT`,
    ['Album create 3', 'Track create 4', 'Track create 5', 'Track create 6'],
  ],
  [
    `BEGIN;
     INSERT INTO "Invoice" ("InvoiceId", "CustomerId", "InvoiceDate", "Total") VALUES (2, 1, '2009-02-01', 0);
     INSERT INTO "InvoiceLine" SELECT 2 + row_number() OVER (ORDER BY "TrackId"), 2, "TrackId", "UnitPrice", 1 FROM "Track" WHERE "AlbumId" = 3;
     UPDATE "Invoice" i SET "Total" = (SELECT sum("UnitPrice" * "Quantity") FROM "InvoiceLine" l WHERE l."InvoiceId" = i."InvoiceId")
     WHERE "InvoiceId" = 2 RETURNING "Total";
     COMMIT`,
    [
      'Invoice create 2',
      'Invoice update 2',
      'InvoiceLine create 3',
      'InvoiceLine create 4',
      'InvoiceLine create 5',
    ],
  ],
  [
    'UPDATE "Track" SET "UnitPrice" = 1.29 WHERE "GenreId" = 1',
    ['Track update 1', 'Track update 2', 'Track update 3'],
  ],
  [
    'INSERT INTO "PlaylistTrack" SELECT 2, "TrackId" FROM "Track" WHERE "AlbumId" = 1',
    ['PlaylistTrack create ["2","1"]', 'PlaylistTrack create ["2","3"]'],
  ],
  [
    'DELETE FROM "PlaylistTrack" WHERE "TrackId" = 2',
    ['PlaylistTrack delete ["1","2"]', 'PlaylistTrack delete ["2","2"]'],
  ],
  [
    'UPDATE "PlaylistTrack" SET "TrackId" = 2 WHERE "TrackId" = 3 AND "PlaylistId" = 2',
    ['PlaylistTrack create ["2","2"]', 'PlaylistTrack delete ["2","3"]'],
  ],
  ['UPDATE "Employee" SET "ReportsTo" = 1 WHERE "ReportsTo" = 2', ['Employee update 3']],
  ['UPDATE "Artist" SET "ArtistId" = 30 WHERE "ArtistId" = 3', ['Artist create 30', 'Artist delete 3']],
  // What is refused is refused in the same words.
  ['DELETE FROM "Artist" WHERE "ArtistId" = 1', 'foreign key constraint'],
  ['UPDATE "Genre" SET "GenreId" = 3 - "GenreId"', 'duplicate key'],
  [`INSERT INTO "Track" ("TrackId", "Name") VALUES (1, 'x')`, 'null value'],
  ['INSERT INTO artist VALUES (1)', 'does not exist'],
  [`UPDATE "Customer" SET "Email" = repeat('x', 61)`, 'too long'],
  // The keys become wider while it is watched.
  [
    `ALTER TABLE "Track" ALTER "TrackId" TYPE bigint;
     UPDATE "Track" SET "Bytes" = 1 WHERE "TrackId" IN (4, 5) RETURNING "TrackId"`,
    ['Track update 4', 'Track update 5'],
  ],
  [
    `ALTER TABLE "Genre" RENAME COLUMN "GenreId" TO genre_id; INSERT INTO "Genre" VALUES (9, 'Bossa Nova'); DELETE FROM "Genre" WHERE genre_id = 9`,
    ['Genre create 9', 'Genre delete 9'],
  ],
  ...(major < 15
    ? []
    : ([
        [
          `MERGE INTO "MediaType" m USING (VALUES (1, 'MP3'), (2, NULL), (3, 'FLAC')) v (id, name) ON m."MediaTypeId" = v.id
           WHEN MATCHED AND v.name IS NULL THEN DO NOTHING
           WHEN MATCHED THEN UPDATE SET "Name" = v.name
           WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.name)`,
          ['MediaType create 3', 'MediaType update 1'],
        ],
      ] as const)),
];

const northwind: Workload = [
  [
    `BEGIN;
     INSERT INTO orders (order_id, customer_id, employee_id, order_date, freight) VALUES (10250, 'ALFKI', 1, '1996-07-08', 65.83);
     INSERT INTO order_details VALUES (10250, 1, 18, 10, 0.05), (10250, 3, 10, 35, 0.15);
     UPDATE products SET units_in_stock = units_in_stock - d.quantity FROM order_details d
     WHERE d.order_id = 10250 AND d.product_id = products.product_id RETURNING products.product_id, units_in_stock;
     COMMIT`,
    [
      'order_details create ["10250","1"]',
      'order_details create ["10250","3"]',
      'orders create 10250',
      'products update 1',
      'products update 3',
    ],
  ],
  ['SELECT * FROM "Order Subtotals" ORDER BY order_id', []],
  // Through a view.
  [
    'UPDATE "Current Product List" SET unit_price = unit_price * 1.1',
    ['products update 1', 'products update 2'],
  ],
  [`INSERT INTO "Current Product List" VALUES (4, 'Ikura', 2, 31, 0)`, ['products create 4']],
  // Cascades, and references that become null.
  [
    'DELETE FROM orders WHERE order_id = 10248',
    ['order_details delete ["10248","1"]', 'order_details delete ["10248","2"]', 'orders delete 10248'],
  ],
  [
    `DELETE FROM customers WHERE customer_id = 'ANATR'`,
    ['customer_customer_demo delete ["ANATR","new"]', 'customers delete ANATR', 'orders update 10249'],
  ],
  [
    'DELETE FROM employees WHERE employee_id = 2',
    [
      'employee_territories delete ["2","01581"]',
      'employee_territories delete ["2","98004"]',
      'employees delete 2',
      'employees update 1',
      'employees update 3',
      'orders update 10249',
    ],
  ],
  [
    `DELETE FROM customer_demographics`,
    [
      'customer_customer_demo delete ["ALFKI","new"]',
      'customer_customer_demo delete ["ALFKI","regular"]',
      'customer_demographics delete new',
      'customer_demographics delete regular',
    ],
  ],
  // Keys of text, padded or not; keys that all move.
  [
    `INSERT INTO customers (customer_id, company_name) VALUES ('B  ', 'blank'), ('ÄÖ', 'umlaut')`,
    ['customers create B  ', 'customers create ÄÖ'],
  ],
  [`UPDATE customers SET customer_id = 'ALFK2' WHERE customer_id = 'ALFKI'`, 'foreign key constraint'],
  [
    'UPDATE us_states SET state_id = state_id + 100',
    ['us_states create 101', 'us_states create 102', 'us_states delete 1', 'us_states delete 2'],
  ],
  ['UPDATE us_states SET state_region = NULL WHERE state_id = 1', []],
  ['DROP TABLE us_states', []],
  ['DELETE FROM suppliers', 'foreign key constraint'],
  ['TRUNCATE region CASCADE', ['employee_territories delete *', 'region delete *', 'territories delete *']],
  ['TRUNCATE orders, order_details', ['order_details delete *', 'orders delete *']],
];

test.each([
  ['pagila', pagila],
  ['chinook', chinook],
  ['northwind', northwind],
])(
  '%s is the same with us as without us, and every change of it becomes an event',
  async (name, workload) => {
    const script = await readFile(new URL(`./schemas/${name}.sql`, import.meta.url), 'utf8');
    await using fixture = await setupTwoDatabases(script);
    for (const [sql, result] of workload) {
      const [problem, events] = typeof result === 'string' ? [result, []] : ['no problem', result];
      expect((await fixture.run(sql)) ?? 'no problem', sql).toContain(problem);
      expect(await fixture.events(events.length), sql).toEqual(events);
    }
    await fixture.expectNoMore();
    await fixture.expectSameContents();
    expect(await fixture.input.status()).toMatchObject({ unwatchable: [], pending: [] });
  },
);
