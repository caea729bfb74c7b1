/** Names that go wrong unless they are quoted. */
const QUOTED = [
  'Order',
  'two words',
  'a-b',
  'a.b',
  'a"b',
  "it's",
  '"',
  "'",
  ' ',
  'select',
  'user',
  '100%',
  '%s',
  '%1$s',
  '%%',
  '$1',
  '$body$',
  '$$',
  'back\\slash',
  "'; DROP TABLE t; --",
  '*/ --',
  'tab\tand\nnewline',
  '{"tbl":1}',
  '€',
  'naïve ☃ 表 😀',
  'x'.repeat(63),
  'é'.repeat(31),
];

/** Names that trigger functions use themselves. */
export const OUR_OWN =
  `new_rows old_rows r c l s relation change location asleep body payload written_at now_known last_op seq
  at tbl op key match step tg_op log`.split(/\s+/);

export const HOSTILE = [...QUOTED, ...OUR_OWN];
