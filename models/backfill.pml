/*
 * Backfills (src/capture/backfills.ts): how the rows that a table holds already come between the changes of the log.
 *
 * TXS transactions make up to CHANGES changes to ROWS rows: they update, delete or insert a row, whose lock they keep until they commit or roll back.
 * A reader makes passes over the log and reads chunks of one or more rows. Each row of the application has a line of events. Its consumer applies the
 * first event of the line to a map, and acknowledges that event afterwards.
 *
 * What happens, at any moment:
 * - A transaction stays open over any number of passes and chunks. A key changes: a transaction deletes one row and inserts the other.
 * - Time passes between a pass's snapshot and its answer, between a chunk's snapshot and the pass that ends at it, and behind that pass.
 * - The chunk after a chunk is read ahead at any moment from the chunk's snapshot on. It is used, or given up.
 * - An acknowledgement is known to the node before it is written to the log or to the progress.
 * - A node dies, or ends its term well, and another one takes over.
 *
 * What is checked:
 * - When a pass is complete, each change that its snapshot sees went to a line in this term, or is gone from the log.
 * - Within a term, no event tells an older state of a row than an event before it, and no change comes twice.
 * - When the progress is at the end of the table, a row that was there throughout came as a `read` event.
 * - When moreover all changes are acknowledged, the map equals the table. A deletion counts as a state.
 *
 * What is left out, and why that is safe:
 * - A snapshot is the set of the transactions that have committed. That a pass finds them in the log is the subject of reading.pml.
 * - Pages. A pass that ends at a snapshot has the same snapshot on all of its pages.
 * - Sleep. The reader is awake while there is a chunk to read.
 * - The fence. What a term writes takes effect in that term only: lease.pml.
 * - Lanes that overflow, so that a row is read again, callers' transactions, and parking. They are left to the tests.
 * - A consumer that has several events of a row in hand. Its order after a fault is its own affair.
 *
 * What is searched: two rows, any number of passes. Two transactions with two changes and a takeover; then three changes, with a takeover or with two
 * transactions; then two takeovers.
 * run: -DCHANGES=2
 * run: -DCHANGES=3 -DTXS=1
 * run: -DCHANGES=3 -DTERMS=1
 * run: -DCHANGES=2 -DTXS=1 -DTERMS=3
 * broken: NO_PASS : never_older
 * broken: PASS_GOES_BEYOND : never_older
 * broken: NEXT_PASS_BEGINS_BEFORE : nothing_twice
 * broken: OPEN_TAKEN_AS_SEEN : nothing_lost
 * broken: CHUNK_FORGOTTEN : all_read
 * broken: CHUNKS_OVERTAKE : all_read
 * broken: KEPT_WHEN_OUT : all_read
 * broken: PROGRESS_WHEN_READ : all_read
 * broken: AHEAD_KEPT : nothing_twice
 */
#ifndef TXS
#define TXS 2
#endif
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef TERMS
#define TERMS 2
#endif
#define ROWS 2
#define NONE 255
#define LINE 6          /* more than a line ever has: the changes and a read event */

/* Never true. They name the assertions. */
hidden byte nothing_lost, nothing_twice, never_older, all_read, map_equals_table;

mtype = { idle, open, committed, aborted };
mtype = { ready, page_read, chunk_read, passed };
mtype = { change_is, read_is };

/* The server. The state of a row is the number of its last change, counted from 1; 0 is the state at the beginning. */
mtype tx[TXS] = idle;
byte lock_of[ROWS] = NONE;
byte drawn;
byte tx_of[CHANGES];
byte row_of[CHANGES];
byte deletes;           /* changes that delete their row: bits */
byte gone;              /* changes that are deleted from the log */
byte progress;          /* rows of which, and of all before them, the events are acknowledged */
byte kept;              /* rows behind the progress whose events are acknowledged, from the end of a term */

/* The node. */
byte term = 1;
mtype at = ready;
bool begun;             /* whether a pass is complete */
byte complete, pass;    /* snapshots: the transactions that they see */
byte page;              /* changes that the pass has found */
byte cursor, chunk_end; /* rows that are read; where the chunk ends that is being read */
bool has_ahead;         /* whether the chunk after the one that is being read is read ahead */
byte ahead, ahead_end;  /* its snapshot, and where it ends */
byte state_ahead[ROWS] = NONE;
byte chunk_ends;        /* of the chunks that are not over: bits */
byte state_read[ROWS] = NONE;   /* in the chunk that is being read */
byte out;               /* rows whose events are not acknowledged */
byte handed;            /* changes that went to the lines in this term */
byte acknowledged;      /* changes, not yet deleted from the log */
byte rows_acknowledged;
chan line_0 = [LINE] of { mtype, byte };
chan line_1 = [LINE] of { mtype, byte };

/* The consumer. */
byte map[ROWS] = NONE;
byte told[ROWS] = NONE; /* in this term */
bool applied[ROWS];     /* the first event of the line */
byte came_as_read;      /* rows */

hidden byte i, r, c, e, state, seen;   /* within a step */

#define bit(x) (1 << (x))

/* The state of row r as the transactions of a snapshot left it. Its lock keeps its changes in order. */
inline state_in(snapshot_) {
  state = 0;
  for (c : 0 .. CHANGES - 1) {
    if
    :: c < drawn && row_of[c] == r && (snapshot_ & bit(tx_of[c])) -> state = c + 1
    :: else
    fi
  }
}
#define IS_THERE (state == 0 || !(deletes & bit(state - 1)))

inline take_snapshot(s) {
  s = 0;
  for (i : 0 .. TXS - 1) { s = s | (tx[i] == committed -> bit(i) : 0) }
}

inline push(kind_, r_, state_) {
  if
  :: r_ == 0 -> assert(nfull(line_0)); line_0!kind_,state_
  :: else -> assert(nfull(line_1)); line_1!kind_,state_
  fi
}

inline find_page() {
  page = 0;
  for (c : 0 .. CHANGES - 1) {
    if
    :: c < drawn && (pass & bit(tx_of[c])) && !(complete & bit(tx_of[c])) && !(gone & bit(c)) -> page = page | bit(c)
    :: else
    fi
  }
}

inline push_page() {
  for (c : 0 .. CHANGES - 1) {
    if
    :: page & bit(c) -> assert(nothing_twice || !(handed & bit(c))); handed = handed | bit(c); push(change_is, row_of[c], c + 1)
    :: else
    fi
  }
  page = 0
}

/* Nothing is lost. */
inline finish_pass() {
  for (c : 0 .. CHANGES - 1) {
    assert(nothing_lost || !(c < drawn && (pass & bit(tx_of[c])) && !((handed | gone) & bit(c))))
  }
  complete = pass
}

active proctype writers() {
  do
  :: atomic { drawn < CHANGES -> select(i : 0 .. TXS - 1); select(r : 0 .. ROWS - 1);
      if
      :: (tx[i] == idle || tx[i] == open) && (lock_of[r] == NONE || lock_of[r] == i) ->
        tx[i] = open; lock_of[r] = i;
        e = i; take_snapshot(seen); i = e;
        state_in(seen | bit(i));
        if
        :: IS_THERE -> deletes = deletes | bit(drawn)
        :: true     /* an update, or an insert if the row is not there */
        fi;
        tx_of[drawn] = i; row_of[drawn] = r; drawn++
      :: else
      fi }
  :: atomic { select(i : 0 .. TXS - 1);
      if
      :: tx[i] == open ->
        if
        :: tx[i] = committed
        :: tx[i] = aborted
        fi;
        for (r : 0 .. ROWS - 1) { lock_of[r] = (lock_of[r] == i -> NONE : lock_of[r]) }
      :: else
      fi }
  od
}

inline give_up_ahead() {
  has_ahead = false; ahead = 0; ahead_end = 0;
  for (r : 0 .. ROWS - 1) { state_ahead[r] = NONE }
}

inline new_term() {
  term++;
  give_up_ahead();
  at = ready; begun = false; complete = 0; pass = 0; page = 0; chunk_end = 0; chunk_ends = 0; out = 0; handed = 0; acknowledged = 0;
#ifndef BROKEN_CHUNK_FORGOTTEN
  cursor = progress;
#endif
  rows_acknowledged = 0;
  do
  :: line_0?_,_
  :: line_1?_,_
  :: empty(line_0) && empty(line_1) -> break
  od;
  for (r : 0 .. ROWS - 1) { told[r] = NONE; applied[r] = false; state_read[r] = NONE }
}

active proctype reader() {
  do
  /* A pass goes beyond the snapshot of what was read ahead. */
  :: atomic { at == ready ->
#ifndef BROKEN_AHEAD_KEPT
      give_up_ahead();
#endif
      take_snapshot(pass); find_page(); at = page_read }
  :: atomic { at == page_read -> push_page(); finish_pass(); pass = 0; begun = true; at = ready }
  /* The chunk's snapshot is kept as the one where the next pass ends. */
  :: atomic { at == ready && has_ahead ->
      pass = ahead; chunk_end = ahead_end;
      for (r : 0 .. ROWS - 1) { state_read[r] = state_ahead[r] }
      give_up_ahead();
      at = chunk_read }
  :: atomic { (at == chunk_read || at == passed) && !has_ahead && chunk_end < ROWS ->
      take_snapshot(ahead);
      has_ahead = true; ahead_end = chunk_end + 1;
      for (r : 0 .. ROWS - 1) {
        if
        :: r >= chunk_end && r < ahead_end && !(kept & bit(r)) ->
          state_in(ahead);
          state_ahead[r] = (IS_THERE -> state : NONE)
        :: else
        fi
      } }
  :: atomic { at == ready && begun && !has_ahead && cursor < ROWS ->
      take_snapshot(pass);
      select(chunk_end : 1 .. ROWS);
      if
      :: chunk_end <= cursor -> chunk_end = ROWS
      :: else
      fi;
      for (r : 0 .. ROWS - 1) {
        if
        :: r >= cursor && r < chunk_end && !(kept & bit(r)) ->
          state_in(pass);
          state_read[r] = (IS_THERE -> state : NONE)
        :: else
        fi
      }
      at = chunk_read }
  :: atomic { at == chunk_read ->
#ifdef BROKEN_PASS_GOES_BEYOND
      take_snapshot(pass);
#endif
#ifndef BROKEN_NO_PASS
      find_page(); push_page();
#ifndef BROKEN_NEXT_PASS_BEGINS_BEFORE
      finish_pass();
#endif
#endif
#ifdef BROKEN_OPEN_TAKEN_AS_SEEN
      for (i : 0 .. TXS - 1) { complete = complete | (tx[i] == open -> bit(i) : 0) }
#endif
      pass = 0; at = passed }
  /* A chunk is given up. */
  :: atomic { at == chunk_read ->
      give_up_ahead();
      for (r : 0 .. ROWS - 1) { state_read[r] = NONE }
      pass = 0; chunk_end = 0;
      at = ready }
  :: atomic { at == passed ->
      for (r : 0 .. ROWS - 1) {
        if
        :: state_read[r] != NONE -> push(read_is, r, state_read[r]); out = out | bit(r); state_read[r] = NONE
        :: else
        fi
      }
      cursor = chunk_end; chunk_ends = chunk_ends | bit(chunk_end); chunk_end = 0; at = ready;
#ifdef BROKEN_PROGRESS_WHEN_READ
      progress = cursor
#endif
    }
  /* The progress moves over a chunk that is over, when those before are. */
  :: atomic { chunk_ends != 0 ->
      for (e : 1 .. ROWS) {
        if
        :: chunk_ends & bit(e) ->
#ifdef BROKEN_CHUNKS_OVERTAKE
          if
          :: !(out & bit(e - 1)) -> progress = e; chunk_ends = chunk_ends & ~bit(e)
#else
          if
          :: !(out & (bit(e) - 1)) -> progress = e; chunk_ends = chunk_ends & ~bit(e)
#endif
          :: else
          fi
        :: else
        fi
      } }
  /* The log is told what is acknowledged. */
  :: atomic { acknowledged != 0 -> gone = gone | acknowledged; acknowledged = 0 }
  :: atomic { term < TERMS -> new_term() }
  /* A term that ends well. */
  :: atomic { term < TERMS ->
      gone = gone | acknowledged;
#ifdef BROKEN_KEPT_WHEN_OUT
      kept = kept | out;
#endif
      kept = kept | rows_acknowledged; new_term() }
  od
}

inline apply(kind_) {
  assert(never_older || told[r] == NONE || state >= told[r]);
  told[r] = state; map[r] = state; applied[r] = true;
  came_as_read = came_as_read | (kind_ == read_is -> bit(r) : 0)
}

inline acknowledge(kind_) {
  applied[r] = false;
  if
  :: kind_ == read_is -> out = out & ~bit(r); rows_acknowledged = rows_acknowledged | bit(r)
  :: else -> acknowledged = acknowledged | bit(state - 1)
  fi
}

active proctype consumer() {
  mtype kind;
  do
  :: atomic { !applied[0] && nempty(line_0) -> line_0?<kind,state>; r = 0; apply(kind); kind = 0 }
  :: atomic { !applied[1] && nempty(line_1) -> line_1?<kind,state>; r = 1; apply(kind); kind = 0 }
  :: atomic { applied[0] -> line_0?kind,state; r = 0; acknowledge(kind); kind = 0 }
  :: atomic { applied[1] -> line_1?kind,state; r = 1; acknowledge(kind); kind = 0 }
  od
}

active proctype judge() {
  do
  :: atomic { progress == ROWS ->
      take_snapshot(seen);
      for (r : 0 .. ROWS - 1) {
        e = 0;
        for (c : 0 .. CHANGES - 1) { e = e || (c < drawn && row_of[c] == r && (deletes & bit(c)) && (seen & bit(tx_of[c]))) }
        assert(all_read || e || (came_as_read & bit(r)))
      }
      e = 0;
      for (c : 0 .. CHANGES - 1) { e = e || (c < drawn && (seen & bit(tx_of[c])) && !(gone & bit(c))) }
      if
      :: !e ->
        for (r : 0 .. ROWS - 1) { state_in(seen); assert(map_equals_table || map[r] == state) }
      :: else
      fi }
  od
}
