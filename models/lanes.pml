/*
 * Lanes (src/delivery/lanes.ts), retries, parking and redriving (src/delivery/lane-delivery.ts, src/capture/failures.ts, src/capture/redriven.ts).
 *
 * CHANGES changes of one table are in the log. Each changes a row, deletes the old key of a row whose key changes, or truncates the table. They arrive
 * in any order that transactions allow: a late transaction's changes arrive below others. LANES lanes have the changes of one row each; with JOINED, of any rows.
 *
 * What happens, at any moment:
 * - A line has no room: the change is dropped, and the log is read again, in pages, when the line is hungry. Time passes between that reading's statement and
 *   its answer.
 * - A handler ends well or fails. The second failure parks the event. An operator redrives it.
 * - An acknowledgement, a failure or a parking is under way before it is written, and a parking is written before that is known.
 * - The term ends and another one begins. What the old term has not written has no effect any more.
 *
 * What is checked:
 * - in_order: an event is handed out when all earlier changes of its row are acknowledged or parked, and nothing else of its lane is in hand.
 * - table_in_order: the same for a truncation and all changes of its table.
 * - key_in_order: an event is handed out when the DELETEs of its statement are over.
 * - nothing_twice: no term hands out an event again that neither failed nor was redriven, and none hands out an event that is acknowledged.
 * - nothing_lost: in the end each change is acknowledged, or parked and not redriven. Each run comes to an
 *   end: with two changes, and with three and one failure in one term, spin finds no cycle either (pan compiled with -DNP, run with -l).
 * - all_attempts: a change that is parked has failed as often as it may.
 * - count_kept, delay_kept: a term goes on with the attempts and the delay that were written.
 * - one_end: no change is both acknowledged and parked.
 *
 * What is left out, and why that is safe:
 * - Capacities. A line is without room whenever it can be: any capacity is one of these runs.
 * - How many are handed out at once, and in which order those that may be. How an event is found that kills its process (suspects.ts) is left to
 *   the tests.
 * - Rows that a backfill has read. The lanes' test has them.
 * - A consumer that has several events of a key in hand. Its order after a failure is its own affair.
 * - The fence itself: lease.pml.
 *
 * What is searched: three changes with two failures, a redriven change and a takeover; four with one failure. Each with lanes of one row and
 * with joined ones; with joined ones also two statements that change keys. Before these, one change that is redriven twice.
 * run: -DCHANGES=1 -DFAILURES=4 -DREDRIVES=2
 * run: -DCHANGES=3
 * run: -DCHANGES=3 -DJOINED
 * run: -DCHANGES=4 -DFAILURES=1 -DTERMS=1 -DREDRIVES=0
 * run: -DCHANGES=4 -DFAILURES=1 -DTERMS=1 -DREDRIVES=0 -DJOINED
 * run: -DCHANGES=4 -DFAILURES=1 -DTERMS=1 -DREDRIVES=0 -DJOINED -DKEY_CHANGES=2 -DTRUNCATIONS=0
 * broken: TWO_WAIT_FOR_EACH_OTHER -DCHANGES=4 -DFAILURES=1 -DTERMS=1 -DREDRIVES=0 -DJOINED -DKEY_CHANGES=2 -DTRUNCATIONS=0 : nothing_lost
 * broken: RETRY_HOLDS_NOTHING -DTERMS=1 -DONLY_KEPT : in_order
 * broken: DROPPED_OVERTAKEN : in_order
 * broken: NEVER_HUNGRY : nothing_lost
 * broken: LATER_DROP_FORGOTTEN : nothing_lost
 * broken: REDRIVEN_IN_A_HUNGRY_LANE : nothing_lost
 * broken: REDRIVEN_WAITS : nothing_lost
 * broken: REDRIVEN_READ_TOO_EARLY -DCHANGES=1 -DFAILURES=4 -DREDRIVES=2 -DTERMS=1 : nothing_lost
 * broken: TRUNCATION_AT_ONCE : table_in_order
 * broken: TRUNCATION_HOLDS_NOTHING : table_in_order
 * broken: TRUNCATION_IN_A_LANE : nothing_twice
 * broken: ONE_LANE : key_in_order
 * broken: COUNT_FORGOTTEN : count_kept
 * broken: DELAY_FORGOTTEN : delay_kept
 * broken: PARKED_BY_AN_OLD_TERM : nothing_twice
 */
#ifndef CHANGES
#define CHANGES 3
#endif
#ifndef FAILURES
#define FAILURES 2
#endif
#ifndef TERMS
#define TERMS 2
#endif
#ifndef REDRIVES
#define REDRIVES 1
#endif
#ifndef TRUNCATIONS
#define TRUNCATIONS 1
#endif
#ifndef KEY_CHANGES
#define KEY_CHANGES 1
#endif
#define LANES 2
#define TABLE LANES     /* the table's line */
#define NONE 255

mtype = { row_change, key_delete, truncation };

/* Never true. They name the assertions. */
hidden byte in_order, table_in_order, key_in_order, nothing_twice, nothing_lost, all_attempts, count_kept, delay_kept, one_end;

/* The changes, by their places in the order of the sequences. */
mtype kind[CHANGES];
byte lane[CHANGES];
byte waits_for[CHANGES];        /* the DELETEs of its statement */
byte statement[CHANGES];        /* of those that change keys */
bool chosen;

/* The database. Sets of changes are bits. */
byte log;
byte minus_log;         /* redriven: in the log under negative numbers */
byte parked;
byte noted;             /* failed once, as the table of failures says */
byte noted_later;       /* their next attempt has its time */
byte later;             /* the time of their next attempt has not come */

/* The term. */
byte term = 1;
byte arrived;
byte minus;             /* redriven, and read */
bool told;              /* redriven changes may be there that were not read */
byte minus_read;
byte pending;           /* acknowledged, and not deleted from the log */
byte tried;             /* failed once */
byte unwritten;         /* failed, and not noted */
byte ready, in_hand, parking, park_written, timed;
byte held_up;           /* wait for the DELETEs of their statement */
byte held_out;          /* the same, and are dropped */
byte pausing;           /* dropped, and their lane waits for their time */

/* The lines. */
chan line[LANES + 1] = [CHANGES] of { byte };
byte from[LANES + 1] = NONE;
byte busy;              /* lanes */
byte hungry;            /* lines */
byte truncating = NONE;
byte under_way, deletes;
bool is_reading, is_full;

/* The log is read again. */
bool again;
byte lines, seen, read_from;
byte since;             /* the lines that have dropped something since */

/* What happened. */
byte over, acknowledged, handed, failed_once, failed_twice;
byte failures, redrives;

byte x, y, z, l, n, m, k, held, lowest, length, no_room, upto, free;    /* within a step, 0 between steps */

#define bit(x) (1 << (x))
#define ALL (bit(CHANGES) - 1)
#define HAS(set, x) (((set) >> (x)) & 1)
#define LANE_BITS (bit(LANES) - 1)
#define IS_IDLE(l) (len(line[l]) == 0 && (l == TABLE -> truncating == NONE : !HAS(busy, l)))
#define MIN(a, b) (a < b -> a : b)

inline add(set, x) { set = set | bit(x) }
inline remove(set, x) { set = set & ~bit(x) }

/* x is any change of the set, which is not empty. */
inline pick(set) {
  if
  :: HAS(set, 0) -> x = 0
  :: HAS(set, 1) -> x = 1
  :: HAS(set, 2) -> x = 2
  :: HAS(set, 3) -> x = 3
  :: HAS(set, 4) -> x = 4
  fi
}

inline settle(l) {
  if
#ifndef BROKEN_NEVER_HUNGRY
  :: from[l] != NONE && IS_IDLE(l) -> add(hungry, l)
#endif
  :: else
  fi
}

inline drop_from(l, x) {
  printf("line %d drops from %d\n", l, x);
  from[l] = x;
  add(since, l);
  is_reading = is_reading && l != TABLE
}

/* Drops what waits in the line, and all from the sequence of x on. */
inline drop_all(l, x) {
  lowest = MIN(from[l], x);
  length = len(line[l]);
  for (m : 1 .. length) {
    line[l]?z;
    if
    :: HAS(minus, z) -> line[l]!z
    :: else -> lowest = MIN(lowest, z)
    fi
  }
  drop_from(l, lowest);
  lowest = 0; length = 0; m = 0; z = 0
}

/* An earlier change of the lane waits behind the one that is held up, or was dropped: it goes first. */
inline give_way(l) {
  held = NONE;
  for (k : 0 .. CHANGES - 1) { held = (HAS(held_up | held_out, k) && lane[k] == l -> k : held) }
  k = held != NONE && from[l] < held;
  length = len(line[l]);
  for (m : 1 .. length) {
    line[l]?z; line[l]!z;
    k = k || (held != NONE && !HAS(minus, z) && z < held)
  }
  length = 0; m = 0; z = 0;
  if
#ifndef BROKEN_TWO_WAIT_FOR_EACH_OTHER
  :: k -> printf("%d gives way\n", held);
    remove(held_up, held); remove(held_out, held);
    drop_all(l, held);
    remove(busy, l);
    if
    :: len(line[l]) > 0 -> line[l]?z; add(busy, l); add(ready, z); z = 0     /* It is redriven. */
    :: else
    fi;
    settle(l)
#endif
  :: else
  fi;
  k = 0; held = 0
}

inline join(l, x) {
  if
  :: HAS(minus, x) -> line[l]!x
#ifdef BROKEN_DROPPED_OVERTAKEN
  :: !HAS(minus, x) -> line[l]!x
#else
  :: !HAS(minus, x) && from[l] == NONE -> line[l]!x
#endif
  :: !HAS(minus, x) ->  /* There is no room, or something was dropped before. */
    if
    :: x < from[l] -> drop_from(l, x)
    :: else
    fi
  fi;
  if
  :: l != TABLE && !HAS(minus, x) -> give_way(l)
  :: else
  fi
}

/* The change is the next one of its lane. */
inline begin(l, x) {
  add(busy, l);
  if
#ifdef BROKEN_ONE_LANE
  :: false
#else
#ifdef BROKEN_REDRIVEN_WAITS
  :: waits_for[x] & deletes -> add(held_up, x)
#else
  :: (waits_for[x] & deletes) && !HAS(minus, x) -> add(held_up, x)
#ifndef ONLY_KEPT
  :: (waits_for[x] & deletes) && !HAS(minus, x) -> add(held_out, x); drop_all(l, x)     /* There is no room. */
#endif
#endif
#endif
  :: else -> add(ready, x)
  fi
}

inline into_lane(x) {
  l = lane[x];
  if
#ifdef BROKEN_REDRIVEN_IN_A_HUNGRY_LANE
  :: IS_IDLE(l) && from[l] == NONE -> begin(l, x)
#else
  :: IS_IDLE(l) && (from[l] == NONE || HAS(minus, x)) -> begin(l, x)
#endif
  :: else -> join(l, x)
  fi;
  l = 0
}

/* Past the table's line. */
inline pass(x) {
  if
  :: kind[x] == truncation -> truncating = x;
    if
#ifdef BROKEN_TRUNCATION_AT_ONCE
    :: true -> add(ready, x)
#else
    :: under_way == 0 -> add(ready, x)
    :: else
#endif
    fi
  :: else -> under_way++;
    if
    :: kind[x] == key_delete -> add(deletes, x)
    :: else
    fi;
    into_lane(x)
  fi
}

#define IS_SHUT(x) (truncating != NONE || len(line[TABLE]) > 0 || from[TABLE] != NONE && !(is_reading && x < from[TABLE]))

inline admit(x) {
  printf("%d arrives\n", x);
  if
#ifndef BROKEN_TRUNCATION_HOLDS_NOTHING
  :: IS_SHUT(x) -> join(TABLE, x)
#endif
  :: else -> pass(x)
  fi
}

inline advance(l) {
  remove(busy, l);
  if
  :: len(line[l]) > 0 -> line[l]?y; begin(l, y); y = 0; give_way(l)
  :: else
  fi;
  settle(l)
}

/* The table's truncation is over. */
inline reopen() {
  if
  :: from[TABLE] != NONE -> lowest = from[TABLE]; drop_all(TABLE, lowest)
  :: else
  fi;
  is_reading = true;
  do
  :: len(line[TABLE]) > 0 && truncating == NONE -> line[TABLE]?y; pass(y); y = 0
  :: else -> break
  od;
  settle(TABLE)
}

inline finish(x) {
  printf("%d is over\n", x);
  remove(in_hand, x); add(over, x);
  if
  :: !HAS(minus, x) && kind[x] == key_delete -> remove(deletes, x);
    for (n : 0 .. CHANGES - 1) {
      if
      :: HAS(held_up, n) && !(waits_for[n] & deletes) -> remove(held_up, n); add(ready, n)
      :: HAS(held_out, n) && !(waits_for[n] & deletes) -> remove(held_out, n); l = lane[n]; advance(l); l = 0
      :: else
      fi
    }
    n = 0
  :: else
  fi;
  if
  :: HAS(minus, x) || kind[x] != truncation -> l = lane[x]; advance(l); l = 0
  :: else
  fi;
  if
  :: HAS(minus, x)
  :: !HAS(minus, x) && truncating == x -> truncating = NONE; reopen()
  :: !HAS(minus, x) && truncating != x ->
    under_way--;
    if
    :: under_way == 0 && truncating != NONE -> add(ready, truncating)
    :: else
    fi;
    if
    :: is_full -> is_full = false; settle(TABLE)
    :: is_full && under_way > 0     /* There is still no room. */
    :: else
    fi
  fi
}

/* The change comes again when its time has come, and its lane waits. */
inline defer(x) {
  printf("%d waits for its time\n", x);
  if
  :: add(timed, x)
#ifndef ONLY_KEPT       /* Whatever waits for its time has room. */
  :: !HAS(minus, x) && kind[x] != truncation -> l = lane[x]; drop_all(l, x); l = 0; add(pausing, x)
#endif
  fi;
#ifdef BROKEN_RETRY_HOLDS_NOTHING
  l = lane[x]; advance(l); l = 0
#endif
}

inline hand_out(x) {
  printf("%d is handed out\n", x);
  assert(count_kept || !HAS(noted, x) || HAS(tried, x));
  assert(delay_kept || !HAS(later, x));
  assert(nothing_twice || !HAS(handed | pending, x) && HAS(log | minus_log, x));
  for (n : 0 .. CHANGES - 1) {
    assert(in_order || n == x || !HAS(in_hand, n) || lane[n] != lane[x] || kind[n] == truncation || kind[x] == truncation);
#ifndef JOINED
    assert(in_order || n >= x || HAS(minus, x) || HAS(over, n) || lane[n] != lane[x]);
#endif
    assert(table_in_order || n >= x || HAS(minus, x) || HAS(over, n) || kind[n] != truncation && kind[x] != truncation);
    assert(key_in_order || HAS(minus, x) || HAS(over, n) || !HAS(waits_for[x], n))
  }
  n = 0;
  add(in_hand, x); add(handed, x)
}

inline new_term() {
  printf("a new term\n");
  term++;
  arrived = 0; minus = 0; told = true; minus_read = 0; pending = 0; unwritten = 0;
  ready = 0; in_hand = 0; timed = 0; held_up = 0; held_out = 0; pausing = 0;
#ifndef BROKEN_PARKED_BY_AN_OLD_TERM
  parking = 0; park_written = 0;
#endif
  for (n : 0 .. LANES) {
    from[n] = NONE;
    do
    :: len(line[n]) > 0 -> line[n]?_
    :: else -> break
    od
  }
  n = 0;
  busy = 0; hungry = 0; truncating = NONE; under_way = 0; deletes = 0; is_reading = false; is_full = false;
  again = false; lines = 0; seen = 0; read_from = 0; since = 0;
  handed = 0;
  later = later & noted_later;
  /* What was acknowledged or failed, and not written, counts for nothing. */
  over = over & ~log;
  acknowledged = acknowledged & ~(log | minus_log);
#ifdef BROKEN_COUNT_FORGOTTEN
  tried = 0
#else
  tried = noted
#endif
}

/* The transactions allow that x arrives before n. */
#ifdef JOINED
#define SAME_ROW(n, x) false
#else
#define SAME_ROW(n, x) (lane[n] == lane[x])
#endif
#define IS_FREE_OF(n, x) (!SAME_ROW(n, x) && kind[n] != truncation && kind[x] != truncation && !HAS(waits_for[x], n) && !(kind[n] == key_delete && kind[x] == key_delete && statement[n] == statement[x]))

inline leaves_log(x) {
  remove(log, x); remove(minus_log, x); remove(unwritten, x); remove(noted, x); remove(noted_later, x)
}

active proctype database() {
  byte truncations, key_changes, open;
  /* Which changes there are. */
  atomic {
    for (x : 0 .. CHANGES - 1) {
      if
      :: kind[x] = row_change
      :: open == 0 && truncations < TRUNCATIONS -> kind[x] = truncation; truncations++
      :: x < CHANGES - 1 && key_changes < KEY_CHANGES -> kind[x] = key_delete; add(open, x); statement[x] = key_changes
      fi;
      if
      :: x > 0 && kind[x] != truncation -> lane[x] = 1
      :: lane[x] = 0
      fi;
      if
      :: kind[x] == row_change -> waits_for[x] = open; key_changes = (open != 0 -> key_changes + 1 : key_changes); open = 0
      :: else
      fi
    }
    x = 0; truncations = 0; key_changes = 0; open = 0;
    log = ALL; chosen = true
  }
end:
  do
  /* The statements of the term take effect. */
  :: atomic { pending != 0 -> pick(pending); remove(pending, x); leaves_log(x); x = 0 }
  :: atomic { unwritten != 0 -> pick(unwritten); add(noted, x);
      noted_later = noted_later | (later & bit(x)); remove(unwritten, x); x = 0 }
  :: atomic { (parking & ~unwritten) != 0 -> pick(parking & ~unwritten);
      if
      :: HAS(log | minus_log, x) -> add(parked, x); add(over, x); assert(all_attempts || HAS(failed_twice, x))
      :: else
      fi;
      remove(parking, x); leaves_log(x);
      if
      :: HAS(in_hand, x) -> add(park_written, x)
      :: else
      fi;
      x = 0 }
  :: atomic { redrives < REDRIVES && parked != 0 -> pick(parked); redrives++;
      remove(parked, x); add(minus_log, x); told = true;
      remove(failed_once, x); remove(failed_twice, x); remove(handed, x); x = 0 }
  :: atomic { term < TERMS -> new_term() }
  /* The time of a change's next attempt comes. */
  :: atomic { later != 0 -> pick(later); remove(later, x); remove(noted_later, x);
      if
      :: HAS(timed, x) -> remove(timed, x); add(ready, x)
      :: HAS(pausing, x) -> remove(pausing, x); l = lane[x]; advance(l); l = 0
      :: else
      fi;
      x = 0 }
  od
}

/* Takes x into line l, unless there is no room. */
inline retake() {
  printf("line %d is offered %d\n", l, x);
  if
  :: l == TABLE ->
    if
    :: truncating == NONE -> is_reading = true; pass(x)
    :: truncating != NONE || under_way > 0 -> add(no_room, TABLE); from[TABLE] = x
    fi
  :: l != TABLE && IS_IDLE(l) -> begin(l, x);
    if
    :: HAS(held_out, x) -> add(no_room, l); from[l] = x
    :: else
    fi
  :: l != TABLE && !IS_IDLE(l) -> line[l]!x
  :: l != TABLE && !IS_IDLE(l) -> add(no_room, l); from[l] = x
  fi
}

/* The line that has dropped the change. */
#ifdef BROKEN_TRUNCATION_IN_A_LANE
#define IS_IN_NO_LANE(x) (truncating <= x)
#else
#define IS_IN_NO_LANE(x) (truncating <= x || kind[x] == truncation)
#endif
#define DROPPED_BY(x) (from[TABLE] <= x -> TABLE : (IS_IN_NO_LANE(x) -> NONE : (from[lane[x]] <= x -> lane[x] : NONE)))

inline take_again() {
  printf("reads again from %d for lines %d\n", read_from, lines);
  hungry = hungry & ~lines;
#ifndef BROKEN_LATER_DROP_FORGOTTEN
  for (l : 0 .. LANES) {
    if
    :: HAS(lines, l) && HAS(since, l) -> remove(lines, l); settle(l)
    :: else
    fi
  }
#endif
  /* A page goes to upto; the last one to the end. */
  select(upto : read_from + 1 .. CHANGES);
  for (x : 0 .. CHANGES - 1) {
    if
    :: x < upto && x >= read_from && HAS(seen & arrived & ~in_hand, x) ->
      l = DROPPED_BY(x);
      if
      :: l != NONE && HAS(lines, l) && !HAS(no_room, l) -> retake()
      :: else
      fi
    :: else
    fi
  }
  x = 0;
  for (l : 0 .. LANES) {
    if
    :: HAS(lines, l) && HAS(no_room, l) && l == TABLE && truncating == NONE && under_way > 0 -> is_full = true
    :: HAS(lines, l) && !(HAS(no_room, l) && l == TABLE && truncating == NONE && under_way > 0) ->
      if
      :: HAS(no_room, l)
      :: !HAS(no_room, l) && upto == CHANGES -> from[l] = NONE
      :: !HAS(no_room, l) && upto < CHANGES && from[l] < upto -> from[l] = upto
      :: else
      fi;
      settle(l)
    :: else
    fi
  }
  l = 0; no_room = 0; upto = 0
}

active proctype reader() {
  chosen;
end:
  do
  :: atomic { (log & ~arrived) != 0 -> 
      for (x : 0 .. CHANGES - 1) {
        y = HAS(log & ~arrived, x);
        for (n : 0 .. CHANGES - 1) { y = y && (n >= x || HAS(~log | arrived, n) || IS_FREE_OF(n, x)) }
        free = free | (y << x)
      }
      pick(free);
      n = 0; y = 0; free = 0;
      add(arrived, x); admit(x); x = 0 }
  /* The session answers in the order of its statements, so that the reader knows of what was parked before. */
#ifdef BROKEN_REDRIVEN_READ_TOO_EARLY
  :: atomic { told && !(park_written & ~minus) ->
#else
  :: atomic { told && park_written == 0 ->
#endif
      told = false;
      for (x : 0 .. CHANGES - 1) {
        if
        :: HAS(minus_log, x) && !HAS(minus_read, x) -> add(minus_read, x); add(minus, x); into_lane(x)
        :: else
        fi
      }
      x = 0 }
  :: atomic { hungry != 0 && !again ->
      again = true;
      lines = (hungry & LANE_BITS -> hungry & LANE_BITS : hungry);
      read_from = NONE;
      for (l : 0 .. LANES) { read_from = (HAS(lines, l) -> MIN(read_from, from[l]) : read_from) }
      l = 0;
      since = 0;
      seen = log & ~pending }
  :: atomic { again -> take_again(); again = false; lines = 0; seen = 0; read_from = 0; since = 0 }
  od
}

/* Their handlers run. */
#define AT_WORK (in_hand & ~(parking | park_written))

active proctype consumer() {
  chosen;
end:
  do
  :: atomic { ready != 0 -> pick(ready);
      remove(ready, x);
      if
      :: is_full -> is_full = false; settle(TABLE)
      :: true       /* Enough is ready. */
      fi;
      if
#ifndef BROKEN_DELAY_FORGOTTEN
      :: HAS(later, x) -> defer(x)
#endif
      :: else -> hand_out(x)
      fi;
      x = 0 }
  :: atomic { AT_WORK != 0 -> pick(AT_WORK);
      add(pending, x); add(acknowledged, x); assert(one_end || !HAS(parked, x)); finish(x); x = 0 }
  :: atomic { failures < FAILURES && AT_WORK != 0 -> pick(AT_WORK);
      failures++;
      if
      :: HAS(failed_once, x) -> add(failed_twice, x)
      :: else -> add(failed_once, x)
      fi;
      if
      :: HAS(tried, x) -> add(parking, x)
      :: else -> add(tried, x); remove(in_hand, x); remove(handed, x); add(later, x); add(unwritten, x); defer(x)
      fi;
      x = 0 }
  /* It is parked, and the node hears that. */
  :: atomic { park_written != 0 -> pick(park_written);
      remove(park_written, x); remove(minus_read, x); remove(tried, x); finish(x); x = 0 }
  od
}

active proctype judge() {
  chosen;
  timeout -> assert(nothing_lost || log == 0 && minus_log == 0)
}
