/*
 * Reading by snapshots (src/capture/change-log.ts), and acknowledging (src/capture/acknowledgements.ts).
 *
 * TXS transactions draw an xid, draw the sequences of their rows in the log, and commit or roll back, each at any moment. A reader reads the log
 * in passes and pages. Row n of the log has sequence 3n. Row PACKED is packed and holds two changes, with the sequences after its own.
 *
 * What happens, at any moment:
 * - Time passes within a page's statement: after its snapshot, after the sequence was read, after the xid was drawn, before the answer.
 * - A transaction stays open over any number of passes. A snapshot lists it, or cannot list it, since the snapshot's xmax is one above the last xid
 *   that ended. An idle transaction can end too, which raises the xmax.
 * - With GIVEN: after a complete pass, a snapshot is taken for the next pass before that pass begins. Once a pass has its snapshot, one is taken for the
 *   pass behind it, so the snapshot of a pass may be older than the moment at which the pass before it started.
 * - With ACKS: the node acknowledges single changes, in statements during which others unpack the row. A caller's transaction unpacks, acknowledges, and
 *   commits or rolls back. Another node takes over in the middle of a pass and of a caller's transaction.
 *
 * What is checked:
 * - When a pass is complete, each change that its snapshot sees was handed out in this term, or was acknowledged before. Since later snapshots
 *   see every transaction that ended, nothing is lost.
 * - No term hands out a change twice, and none hands out a change that is acknowledged.
 * - A change is not handed out before all earlier changes of the same row of the application were.
 * - Only a change that was handed out and that the consumer acknowledged is deleted. An acknowledgement by the node is reported as done only if
 *   the change is gone.
 *
 * What is left out, and why that is safe:
 * - A page has one row. A larger page is several of these pages with nothing in between.
 * - A statement reads the log when it takes its snapshot, since PostgreSQL shows it that state only.
 * - The node's own acknowledgements draw no xid. A transaction without a row does the same to the snapshots.
 * - Given snapshots and acknowledgements are not searched together: deleting a change neither asks for a pass's snapshot nor alters what it sees.
 * - The fence is the subject of lease.pml: after a takeover, what the old node has sent has no effect.
 * - Rows restored from another cluster, and pages that end by time: they change where a statement starts, and the tests cover them.
 *
 * What is searched: any number of passes. Two transactions with three rows, three with two, and two with three where the role may not read the sequence's
 * value; the last one with given snapshots. With given snapshots also two transactions with two rows, and three with one. With acknowledgements and a
 * takeover: one transaction with a packed and a single row, two transactions with a packed row. 0.2 to 3.1 million states each, in seconds.
 * run: -DTXS=2 -DROWS=3
 * run: -DTXS=3 -DROWS=2
 * run: -DGIVEN -DTXS=2 -DROWS=3 -DBLIND
 * run: -DGIVEN -DTXS=2 -DROWS=2
 * run: -DGIVEN -DTXS=3 -DROWS=1
 * run: -DACKS -DTXS=1 -DROWS=2
 * run: -DACKS -DTXS=2 -DROWS=1
 * broken: ALL_BELOW_XMAX_ENDED : nothing_lost
 * broken: GIVEN_TAKEN_AS_YOUNGER -DGIVEN -DTXS=2 -DROWS=2 : nothing_lost
 * broken: LATE_FORGOTTEN : nothing_lost
 * broken: NO_XID : nothing_lost
 * broken: SNAPSHOT_OF_A_PAGE : nothing_lost
 * broken: UNLISTED_FORGOTTEN : nothing_lost
 * broken: XID_BEFORE_SEQUENCE : nothing_lost
 * broken: PAGE_ENDS_AT_ROW : nothing_twice
 * broken: WHOLE_ROW_DELETED : acknowledged_only
 * broken: ROLLBACK_TAKEN_AS_DONE : acknowledged_only
 * broken: LOCKED_TAKEN_AS_DONE : done_is_gone
 * broken: ONE_ATTEMPT : done_is_gone
 */
#if defined(BROKEN_PAGE_ENDS_AT_ROW) || defined(BROKEN_WHOLE_ROW_DELETED) || defined(BROKEN_ONE_ATTEMPT) || defined(BROKEN_LOCKED_TAKEN_AS_DONE) || defined(BROKEN_ROLLBACK_TAKEN_AS_DONE)
#define ACKS
#endif
#ifdef ACKS
#ifndef TXS
#define TXS 1
#endif
#ifndef ROWS
#define ROWS 2
#endif
#define PACKED 1        /* the number of the packed row */
#define TERMS 2
#else
#ifndef TXS
#define TXS 2
#endif
#ifndef ROWS
#define ROWS 3
#endif
#define PACKED 0        /* none */
#define TERMS 1
#endif
#define NONE 255

/* Never true. They name the assertions. */
hidden byte nothing_lost, nothing_twice, in_order, acknowledged_only, done_is_gone;

mtype = { idle, open, committed, aborted };
mtype = { between, snapped, counted, answered };
mtype = { free, unpacking, holding };

/* The server. */
byte next_xid = 1;
byte ended_xid;         /* the last xid that ended */
byte rows;              /* drawn from the sequence */
mtype tx[TXS] = idle;
byte xid[TXS];
byte begun;             /* transactions begin in the order of their numbers */
byte row_tx[ROWS + 1];
bool contested[ROWS + 1];       /* the row of the log changes a row of the application that others change too */
byte lock_of = NONE;    /* the transaction that has changed that row and is open */
bool unpacked;
byte gone;              /* changes that are deleted: bit 2(n-1) of row n, and for the second change of a packed row the bit after that */
byte acknowledged;      /* by the consumer */

/* The reader. */
mtype at = between;
byte term;
byte handed;            /* in this term */
bool started;
byte complete_drawn, complete_xid, complete_xmax, complete_xip; bool complete_snapshot;
bool in_pass;
byte pass_drawn, pass_xid, pass_xmax, pass_xip, after;         /* its snapshot may be given before it begins */
byte ahead_xmax, ahead_xip;     /* the snapshot that is given to the pass behind it */
byte page_seq, page_bits;       /* the row of the page, and its changes: 0 for nothing */
byte late;              /* the listed transactions */
byte late_after[TXS];
byte unlisted_after;
#ifdef GIVEN
byte before_drawn, before_xid;  /* the start of the pass before the complete one */
#endif

/* Acknowledgements. */
byte ack = NONE; bool ack_saw_packed;
mtype caller = free; byte callers = NONE;

#define MOST (3 * TXS + 6)      /* xids at once */

hidden byte t, s, n, first, xmax, xip, bits;     /* within a step */

#define bit(x) (1 << (x))
#define SEQ(n) (3 * (n))
#define DRAWN (rows == 0 -> 0 : SEQ(rows) + 2)
#define SEEN(x, xmax_, xip_) (xid[x] < xmax_ && !(xip_ & bit(x)))
#define MAX(a, b) (a > b -> a : b)
#define CHANGES(n) (n == PACKED -> 3 << (2 * ((n) - 1)) : bit(2 * ((n) - 1)))
#define ROW_OF(c) ((c) / 2 + 1)

inline take_snapshot() {
  xmax = ended_xid + 1; xip = 0;
  for (t : 0 .. TXS - 1) {
    if
    :: tx[t] == open && xid[t] < xmax -> xip = xip | bit(t)
    :: else
    fi
  }
}

inline end_of(x) {
  ended_xid = MAX(ended_xid, x)
}

/* Which changes the row at sequence s holds, 0 if there is none. */
inline row_at() {
  n = s / 3; bits = 0;
  if
  :: tx[row_tx[n]] != committed
  :: tx[row_tx[n]] == committed && n == PACKED && !unpacked && s % 3 == 0 -> bits = CHANGES(n)
  :: tx[row_tx[n]] == committed && n == PACKED && unpacked && s % 3 > 0 -> bits = bit(2 * (n - 1) + s % 3 - 1) & ~gone
  :: tx[row_tx[n]] == committed && n != PACKED && s % 3 == 0 -> bits = CHANGES(n) & ~gone
  :: else
  fi
}

/* Where the pass starts that begins with the snapshot that was just taken. */
inline start_of_pass() {
  if
  :: !complete_snapshot -> first = 0
  :: else ->
    first = complete_drawn;
#ifndef BROKEN_UNLISTED_FORGOTTEN
    if
    :: complete_xmax < complete_xid -> first = unlisted_after
    :: else
    fi;
#endif
#ifndef BROKEN_LATE_FORGOTTEN
    for (t : 0 .. TXS - 1) {
      if
      :: (late & bit(t)) && SEEN(t, pass_xmax, pass_xip) && late_after[t] < first -> first = late_after[t]
      :: else
      fi
    }
#endif
  fi
}

#ifdef BROKEN_ALL_BELOW_XMAX_ENDED
#define WAS_READ(x) (complete_snapshot && xid[x] < complete_xmax)
#else
#define WAS_READ(x) (complete_snapshot && SEEN(x, complete_xmax, complete_xip))
#endif

inline read_page() {
  take_snapshot();
  if
  :: !in_pass ->
    if
    :: pass_xmax == 0 -> pass_xmax = xmax; pass_xip = xip
    :: else
    fi;
    start_of_pass()
  :: else ->
#ifdef BROKEN_SNAPSHOT_OF_A_PAGE
    pass_xmax = xmax; pass_xip = xip;
#endif
    first = after
  fi;
  page_seq = 0;
  for (s : 3 .. SEQ(rows) + 2) {
    if
    :: s > first && page_seq == 0 ->
      row_at();
      if
      :: bits != 0 && SEEN(row_tx[n], pass_xmax, pass_xip) && !WAS_READ(row_tx[n]) -> page_seq = s
      :: else
      fi
    :: else
    fi
  }
  /* What the page holds is settled now, though it is handed out with the answer. */
  if
  :: page_seq != 0 -> s = page_seq; row_at(); page_bits = bits
  :: else -> page_bits = 0
  fi
}

inline hand_out() {
  assert(nothing_twice || !(handed & page_bits));
  n = page_seq / 3;
  if
  :: contested[n] ->
    for (t : 1 .. n) {
      assert(in_order || t == n || !contested[t] || tx[row_tx[t]] != committed || ((handed | gone) & CHANGES(t)) == CHANGES(t))
    }
  :: else
  fi;
  handed = handed | page_bits;
#ifdef BROKEN_PAGE_ENDS_AT_ROW
  after = page_seq
#else
  after = (n == PACKED && page_seq % 3 == 0 -> page_seq + 2 : page_seq)
#endif
}

/* Xids matter by their order only. Those that the reader is done with are forgotten, so that the passes are unlimited in number. */
inline renumber() {
  for (t : 0 .. TXS - 1) {
    if
    :: xid[t] != 0 && tx[t] != open && SEEN(t, complete_xmax, complete_xip) -> xid[t] = 0
    :: else
    fi
  }
  s = 1;
  for (n : 1 .. MOST) {
    bits = (s == ended_xid || s == complete_xid || s == complete_xmax || s == pass_xmax || s >= next_xid);
#ifdef GIVEN
    bits = bits || s == before_xid;
#endif
    for (t : 0 .. TXS - 1) { bits = bits || xid[t] == s }
    if
    :: bits -> s++
    :: else ->
      next_xid--;
      for (t : 0 .. TXS - 1) { xid[t] = (xid[t] > s -> xid[t] - 1 : xid[t]) }
      ended_xid = (ended_xid > s -> ended_xid - 1 : ended_xid);
#ifdef GIVEN
      before_xid = (before_xid > s -> before_xid - 1 : before_xid);
#endif
      complete_xid = (complete_xid > s -> complete_xid - 1 : complete_xid);
      complete_xmax = (complete_xmax > s -> complete_xmax - 1 : complete_xmax);
      pass_xmax = (pass_xmax > s -> pass_xmax - 1 : pass_xmax)
    fi
  }
  assert(next_xid <= MOST)
}

inline finish_pass() {
  for (t : 0 .. TXS - 1) {
    if
    :: pass_xip & bit(t) ->
      if
      :: late & bit(t)
      :: else -> late_after[t] = (xid[t] < complete_xid -> unlisted_after : complete_drawn)
      fi
    :: else -> late_after[t] = 0
    fi
  }
  late = pass_xip;
#ifdef BROKEN_GIVEN_TAKEN_AS_YOUNGER
  unlisted_after = complete_drawn;
#else
  if
  :: pass_xmax >= complete_xid -> unlisted_after = complete_drawn
#ifdef GIVEN
  :: pass_xmax < complete_xid && pass_xmax >= before_xid -> unlisted_after = before_drawn
  :: pass_xmax < complete_xid && pass_xmax < before_xid
#else
  :: else
#endif
  fi;
#endif
#ifdef GIVEN
  before_drawn = complete_drawn; before_xid = complete_xid;
#endif
  complete_drawn = MAX(MAX(pass_drawn, complete_drawn), after);
  complete_xid = pass_xid; complete_xmax = pass_xmax; complete_xip = pass_xip; complete_snapshot = true;
  /* Nothing is lost. */
  for (n : 1 .. ROWS) {
    if
    :: n <= rows && tx[row_tx[n]] == committed && SEEN(row_tx[n], pass_xmax, pass_xip) ->
      assert(nothing_lost || ((handed | gone) & CHANGES(n)) == CHANGES(n))
    :: else
    fi
  }
  in_pass = false; after = 0; pass_drawn = 0; pass_xid = 0;
  pass_xmax = ahead_xmax; pass_xip = ahead_xip; ahead_xmax = 0; ahead_xip = 0;
  renumber()
}

inline new_term() {
  for (t : 0 .. TXS - 1) { late_after[t] = 0 }
  term++; handed = 0; started = false; at = between;
  complete_drawn = 0; complete_xid = 0; complete_xmax = 0; complete_xip = 0; complete_snapshot = false;
  in_pass = false; after = 0; pass_drawn = 0; pass_xid = 0; pass_xmax = 0; pass_xip = 0; page_seq = 0; page_bits = 0;
  ahead_xmax = 0; ahead_xip = 0;
#ifdef GIVEN
  before_drawn = 0; before_xid = 0;
#endif
  late = 0; unlisted_after = 0; ack = NONE; ack_saw_packed = false
}

#define IS_WHOLE(c) (ROW_OF(c) == PACKED && !unpacked)
#define IS_LOCKED(c) (caller == holding && callers == c)

inline delete_change(c) {
#ifdef BROKEN_WHOLE_ROW_DELETED
  gone = gone | (IS_WHOLE(c) -> CHANGES(ROW_OF(c)) : bit(c));
#else
  gone = gone | bit(c);
#endif
  if
  :: ROW_OF(c) == PACKED -> unpacked = true
  :: else
  fi;
  assert(acknowledged_only || (gone & acknowledged) == gone)
}

inline draw_sequence() {
#ifdef BLIND
  pass_drawn = 0
#else
  pass_drawn = DRAWN
#endif
}

/* The pass's transaction draws an xid, and has ended when the answer comes. Without it, only the xmax of the moment would be known. */
inline draw_xid() {
#ifdef BROKEN_NO_XID
  pass_xid = ended_xid + 1
#else
  pass_xid = next_xid; next_xid++
#endif
}

active proctype writers() {
  byte i;
  do
  :: atomic { begun < TXS -> tx[begun] = open; xid[begun] = next_xid; next_xid++; begun++ }
  :: atomic {
      rows < ROWS ->
      select(i : 0 .. TXS - 1);
      if
      :: tx[i] == open -> rows++; row_tx[rows] = i;
        if
        :: lock_of == NONE || lock_of == i -> contested[rows] = true; lock_of = i
        :: true
        fi
      :: else
      fi;
      i = 0
    }
  :: atomic {
      select(i : 0 .. TXS - 1);
      if
      :: tx[i] == open -> end_of(xid[i]);
        if
        :: tx[i] = committed
        :: tx[i] = aborted
        fi;
        if
        :: lock_of == i -> lock_of = NONE
        :: else
        fi
      :: else
      fi;
      i = 0
    }
  od
}

active proctype reader() {
  do
  /* The moment at which reading began. */
  :: d_step { !started -> complete_drawn = DRAWN;
#ifdef BLIND
      complete_drawn = 0;
#endif
#ifdef BROKEN_NO_XID
      complete_xid = ended_xid + 1;
#else
      complete_xid = next_xid; next_xid++; end_of(complete_xid);
#endif
      started = true }
  :: d_step { started && at == between -> read_page(); at = (in_pass -> answered : snapped) }
#ifdef BROKEN_XID_BEFORE_SEQUENCE
  :: d_step { at == snapped -> draw_xid(); at = counted }
  :: d_step { at == counted -> draw_sequence(); at = answered }
#else
  :: d_step { at == snapped -> draw_sequence(); at = counted }
  :: d_step { at == counted -> draw_xid(); at = answered }
#endif
  :: d_step { at == answered ->
      at = between;
#ifndef BROKEN_NO_XID
      end_of(pass_xid);
#endif
      in_pass = true;
      if
      :: page_seq != 0 -> hand_out()
      :: else -> finish_pass()
      fi;
      page_seq = 0; page_bits = 0 }
#ifdef GIVEN
  /* A snapshot is taken for the next pass, or for the pass behind the one that has its snapshot. */
  :: d_step { complete_snapshot && ahead_xmax == 0 ->
      take_snapshot();
      if
      :: pass_xmax == 0 -> pass_xmax = xmax; pass_xip = xip
      :: else -> ahead_xmax = xmax; ahead_xip = xip
      fi }
#endif
#ifdef ACKS
  :: d_step { term < TERMS - 1 -> new_term() }
#endif
  od
}

#ifdef ACKS
active proctype consumer() {
  byte c;
  do
  /* The node acknowledges. The statement sees the log of its beginning. */
  :: atomic { ack == NONE && handed != 0 -> select(c : 0 .. 2 * ROWS - 1);
      if
      :: (handed & bit(c)) && !(gone & bit(c)) -> ack = c; ack_saw_packed = IS_WHOLE(c); acknowledged = acknowledged | bit(c)
      :: else
      fi;
      c = 0 }
#ifdef BROKEN_LOCKED_TAKEN_AS_DONE
  :: d_step { ack != NONE && IS_LOCKED(ack) -> assert(done_is_gone || gone & bit(ack)) }
#endif
  :: d_step { ack != NONE && !IS_LOCKED(ack) ->
      if
      :: ack_saw_packed && !IS_WHOLE(ack) ->
        /* The row that the statement saw is gone, and the statement does not see the ones in its place. */
#ifdef BROKEN_ONE_ATTEMPT
        assert(done_is_gone || gone & bit(ack)); ack = NONE;
#endif
        ack_saw_packed = false
      :: else -> delete_change(ack); assert(done_is_gone || gone & bit(ack)); ack = NONE; ack_saw_packed = false
      fi }
  /* A caller acknowledges in a transaction. */
  :: atomic { caller == free && handed != 0 -> select(c : 0 .. 2 * ROWS - 1);
      if
      :: (handed & bit(c)) && !(gone & bit(c)) ->
        callers = c;
        if
        :: IS_WHOLE(c) -> caller = unpacking
        :: else -> caller = holding
        fi
      :: else
      fi;
      c = 0 }
  :: d_step { caller == unpacking && !unpacked -> unpacked = true }
  :: d_step { caller == unpacking && unpacked ->
      if
      :: gone & bit(callers) -> caller = free; callers = NONE
      :: !(gone & bit(callers)) && (handed & bit(callers)) -> caller = holding
      :: else -> caller = free; callers = NONE    /* the lease is lost */
      fi }
  :: d_step { caller == holding -> acknowledged = acknowledged | bit(callers); delete_change(callers); caller = free; callers = NONE }
#ifdef BROKEN_ROLLBACK_TAKEN_AS_DONE
  :: d_step { caller == holding -> delete_change(callers); caller = free; callers = NONE }
#else
  :: d_step { caller == holding -> caller = free; callers = NONE }
#endif
  od
}
#endif
