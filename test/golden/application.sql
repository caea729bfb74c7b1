-- The tables that the trigger functions in this folder are made for.
CREATE TABLE orders (id uuid PRIMARY KEY, note text);
CREATE TABLE order_lines (order_id uuid, line integer, made_at timestamptz, id integer, PRIMARY KEY (order_id, line, made_at));
CREATE TABLE notes (text text);
CREATE TABLE measurements (day date, id bigint, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE measurements_rest PARTITION OF measurements DEFAULT;
