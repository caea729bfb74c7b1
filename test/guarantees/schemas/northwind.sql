-- A trading company, after Northwind in its form for PostgreSQL (https://github.com/pthom/northwind_psql): its tables,
-- columns and types, and two views of the original's, with little data of our own. Added: the keys' ON DELETE.

CREATE TABLE categories (
  category_id smallint NOT NULL PRIMARY KEY,
  category_name character varying(15) NOT NULL,
  description text,
  picture bytea
);
CREATE TABLE customer_demographics (
  customer_type_id bpchar NOT NULL PRIMARY KEY,
  customer_desc text
);
CREATE TABLE customers (
  customer_id bpchar NOT NULL PRIMARY KEY,
  company_name character varying(40) NOT NULL,
  contact_name character varying(30),
  contact_title character varying(30),
  address character varying(60),
  city character varying(15),
  region character varying(15),
  postal_code character varying(10),
  country character varying(15),
  phone character varying(24),
  fax character varying(24)
);
CREATE TABLE customer_customer_demo (
  customer_id bpchar NOT NULL REFERENCES customers ON DELETE CASCADE,
  customer_type_id bpchar NOT NULL REFERENCES customer_demographics ON DELETE CASCADE,
  PRIMARY KEY (customer_id, customer_type_id)
);
CREATE TABLE employees (
  employee_id smallint NOT NULL PRIMARY KEY,
  last_name character varying(20) NOT NULL,
  first_name character varying(10) NOT NULL,
  title character varying(30),
  title_of_courtesy character varying(25),
  birth_date date,
  hire_date date,
  address character varying(60),
  city character varying(15),
  region character varying(15),
  postal_code character varying(10),
  country character varying(15),
  home_phone character varying(24),
  extension character varying(4),
  photo bytea,
  notes text,
  reports_to smallint REFERENCES employees ON DELETE SET NULL,
  photo_path character varying(255)
);
CREATE TABLE suppliers (
  supplier_id smallint NOT NULL PRIMARY KEY,
  company_name character varying(40) NOT NULL,
  contact_name character varying(30),
  contact_title character varying(30),
  address character varying(60),
  city character varying(15),
  region character varying(15),
  postal_code character varying(10),
  country character varying(15),
  phone character varying(24),
  fax character varying(24),
  homepage text
);
CREATE TABLE products (
  product_id smallint NOT NULL PRIMARY KEY,
  product_name character varying(40) NOT NULL,
  supplier_id smallint REFERENCES suppliers,
  category_id smallint REFERENCES categories,
  quantity_per_unit character varying(20),
  unit_price real,
  units_in_stock smallint,
  units_on_order smallint,
  reorder_level smallint,
  discontinued integer NOT NULL
);
CREATE TABLE region (
  region_id smallint NOT NULL PRIMARY KEY,
  region_description bpchar NOT NULL
);
CREATE TABLE shippers (
  shipper_id smallint NOT NULL PRIMARY KEY,
  company_name character varying(40) NOT NULL,
  phone character varying(24)
);
CREATE TABLE orders (
  order_id smallint NOT NULL PRIMARY KEY,
  customer_id bpchar REFERENCES customers ON DELETE SET NULL,
  employee_id smallint REFERENCES employees ON DELETE SET NULL,
  order_date date,
  required_date date,
  shipped_date date,
  ship_via smallint REFERENCES shippers,
  freight real,
  ship_name character varying(40),
  ship_address character varying(60),
  ship_city character varying(15),
  ship_region character varying(15),
  ship_postal_code character varying(10),
  ship_country character varying(15)
);
CREATE TABLE territories (
  territory_id character varying(20) NOT NULL PRIMARY KEY,
  territory_description bpchar NOT NULL,
  region_id smallint NOT NULL REFERENCES region
);
CREATE TABLE employee_territories (
  employee_id smallint NOT NULL REFERENCES employees ON DELETE CASCADE,
  territory_id character varying(20) NOT NULL REFERENCES territories,
  PRIMARY KEY (employee_id, territory_id)
);
CREATE TABLE order_details (
  order_id smallint NOT NULL REFERENCES orders ON DELETE CASCADE,
  product_id smallint NOT NULL REFERENCES products,
  unit_price real NOT NULL,
  quantity smallint NOT NULL,
  discount real NOT NULL,
  PRIMARY KEY (order_id, product_id)
);
CREATE TABLE us_states (
  state_id smallint NOT NULL PRIMARY KEY,
  state_name character varying(100),
  state_abbr character varying(2),
  state_region character varying(50)
);

CREATE VIEW "Order Subtotals" AS
SELECT order_id, sum((unit_price * quantity * (1 - discount))::numeric(10, 2)) AS "Subtotal" FROM order_details GROUP BY order_id;

-- One that can be written to.
CREATE VIEW "Current Product List" AS
SELECT product_id, product_name, category_id, unit_price, discontinued FROM products WHERE discontinued = 0;

INSERT INTO categories VALUES (1, 'Beverages', 'Soft drinks, coffees, teas', '\x'), (2, 'Condiments', NULL, NULL);
INSERT INTO customer_demographics VALUES ('regular', 'buys every month'), ('new', NULL);
INSERT INTO customers (customer_id, company_name, country) VALUES
  ('ALFKI', 'Alfreds Futterkiste', 'Germany'), ('ANATR', 'Ana Trujillo Emparedados y helados', 'Mexico');
INSERT INTO customer_customer_demo VALUES ('ALFKI', 'regular'), ('ANATR', 'new'), ('ALFKI', 'new');
INSERT INTO employees (employee_id, last_name, first_name, title, birth_date, reports_to) VALUES
  (2, 'Fuller', 'Andrew', 'Vice President, Sales', '1952-02-19', NULL),
  (1, 'Davolio', 'Nancy', 'Sales Representative', '1948-12-08', 2), (3, 'Leverling', 'Janet', 'Sales Representative', '1963-08-30', 2);
INSERT INTO suppliers (supplier_id, company_name) VALUES (1, 'Exotic Liquids');
INSERT INTO products VALUES
  (1, 'Chai', 1, 1, '10 boxes x 30 bags', 18, 39, 0, 10, 0), (2, 'Chang', 1, 1, '24 - 12 oz bottles', 19, 17, 40, 25, 0),
  (3, 'Aniseed Syrup', 1, 2, '12 - 550 ml bottles', 10, 13, 70, 25, 1);
INSERT INTO region VALUES (1, 'Eastern'), (2, 'Western');
INSERT INTO shippers VALUES (1, 'Speedy Express', '(503) 555-9831'), (2, 'United Package', '(503) 555-3199');
INSERT INTO orders (order_id, customer_id, employee_id, order_date, ship_via, freight) VALUES
  (10248, 'ALFKI', 1, '1996-07-04', 1, 32.38), (10249, 'ANATR', 2, '1996-07-05', 2, 11.61);
INSERT INTO territories VALUES ('01581', 'Westboro', 1), ('98004', 'Bellevue', 2);
INSERT INTO employee_territories VALUES (1, '01581'), (2, '01581'), (2, '98004');
INSERT INTO order_details VALUES (10248, 1, 18, 12, 0), (10248, 2, 19, 10, 0.15), (10249, 3, 10, 9, 0);
INSERT INTO us_states VALUES (1, 'Alabama', 'AL', 'south'), (2, 'Alaska', 'AK', 'north');
