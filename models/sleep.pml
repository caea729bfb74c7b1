/*
 * Asleep and awake (src/capture/sleeping.ts, src/capture/passes.ts): how a change comes by the log or by a notification, and never by both.
 *
 * TXS transactions log up to CHANGES changes in all. For each change, a transaction tries to share the sleep lock. If the reader holds the lock, the change
 * is announced when the transaction commits. Each statement of the reader is applied in the database and is answered in two steps, and notifications
 * are handled at any moment in between, in the order of the commits.
 *
 * What happens, at any moment:
 * - The writers are busy, the sink is full, or the notification queue fills up: the reader turns back or wakes up.
 * - With LOOKS: asleep, the reader reads the log because an announcement says so, or because many changes are remembered. Announcements are held meanwhile.
 * - The secret is replaced. Somebody sends a forgery, signed with a secret that was replaced before the term began, or with none.
 * - The listener turns deaf: what is sent from then on is lost until the term ends, which the heartbeat brings about.
 * - The node crashes and another one takes over. The server keeps the dead session's lock for a while. Markers and announcements of the old term
 *   are still under way.
 *
 * What is checked:
 * - When a pass is complete, each change that its snapshot sees was handed out. When the reader is asleep, hears, and no notification is under way, each
 *   committed change was handed out. So each committed change is handed out in the end.
 * - No term hands out a change twice, or one that was not committed, or one before an earlier change of the same row.
 * - A listener that was deaf when the reader took the lock does not let the reader fall asleep.
 *
 * What is left out, and why that is safe:
 * - A snapshot is the set of the transactions that have committed. That a pass finds them in the log is the subject of reading.pml.
 * - Acknowledgements. A new term could find less in the log than here.
 * - A full queue in which commits that notify fail. Such a transaction rolls back.
 * - The limits in number (MAX_HELD, MAX_REMEMBERED) and the rates: the reader can turn back at any moment.
 * - A forgery makes the reader look at once. That a look that is put off for a second is not forgotten is left to the tests.
 *
 * What is searched: two transactions, two attempts to fall asleep, any number of passes. Two changes, two faults and a secret that is replaced; then
 * three changes and one fault; then a reader that looks, with two changes and two faults. Up to millions of states each, in minutes.
 * run: -DCHANGES=2 -DFAULTS=2
 * run: -DCHANGES=3 -DFAULTS=1 -DSECRETS=0
 * run: -DCHANGES=2 -DFAULTS=2 -DSECRETS=0 -DLOOKS
 * broken: LOST_WHILE_LOOKING -DLOOKS : nothing_lost
 * broken: SHARE_NOT_KEPT : nothing_lost
 * broken: NO_LAST_LOOK : nothing_lost
 * broken: NOT_HELD : nothing_lost
 * broken: TAKEN_WHILE_TURNING : nothing_lost
 * broken: FORGERY_IGNORED : nothing_lost
 * broken: COVERED_TAKEN : nothing_twice
 * broken: NOTIFIED_FORGOTTEN : nothing_twice
 * broken: TAKEN_WHILE_AWAKE : nothing_twice
 * broken: ANY_MARKER : deaf_is_noticed
 * broken: NO_MARKER : deaf_is_noticed
 * broken: SECRET_OF_ANOTHER_TERM : forgery_refused
 */
#ifndef TXS
#define TXS 2
#endif
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef SECRETS
#define SECRETS 1       /* how often the secret is replaced */
#endif
#define NONE 255

/* Never true. They name the assertions. */
hidden byte nothing_lost, nothing_twice, committed_only, in_order, deaf_is_noticed, forgery_refused;

mtype = { idle, open, committed, aborted };
mtype = { awake, turning, asleep, looking };
mtype = { ready, page_read, locking, last_look, marker_waits, sleeping_now, look_read, unlocking };
mtype = { change_is, marker_is, forgery_is };

/* The server. */
mtype tx[TXS] = idle;
byte shares;            /* the transactions that share the sleep lock: bits */
bool lock_held;         /* by the reader's session, or by the session of a node that died */
bool lock_stale;
byte drawn;             /* changes, in the order of their sequences */
byte tx_of[CHANGES];
byte announced;         /* changes that are announced when their transaction commits */
bool contested[CHANGES];
byte lock_of = NONE;
byte secret;
chan queue = [8] of { mtype, byte, byte };      /* kind; change or marker; secret */

/* The node. */
byte my_secret, term_secret;    /* what the node believes in; what was the secret when the term began */
mtype phase = awake;
mtype at = ready;
bool locked;            /* whether the reader knows that it has the lock */
byte marker, markers;   /* the marker that is awaited, 0 for none; how many were sent */
chan held = [4] of { byte };    /* changes, or NONE for "look" */
byte complete, pass;    /* snapshots: the transactions that they see */
bool in_pass, last_page;
byte after, page;
byte notified, handed;
bool turns_to_sleep;
bool deaf, deaf_at_lock;
byte faults, terms;

byte c, k, kk;          /* within a step, 0 between steps */

#define bit(x) (1 << (x))
#ifdef BROKEN_NO_MARKER
#define MARKER_ARRIVED true
#else
#define MARKER_ARRIVED (marker == 0)
#endif

inline snapshot(s) {
  s = 0;
  for (c : 0 .. TXS - 1) {
    if
    :: tx[c] == committed -> s = s | bit(c)
    :: else
    fi
  }
  c = 0
}

inline send(kind, what, sign) {
  if
  :: !deaf -> queue!kind,what,sign
  :: else
  fi
}

inline hand_out(x) {
  assert(nothing_twice || !(handed & bit(x)));
  assert(committed_only || tx[tx_of[x]] == committed);
  for (k : 0 .. CHANGES - 1) {
    assert(in_order || !(k < x && contested[x] && contested[k] && tx[tx_of[k]] == committed && !(handed & bit(k))))
  }
  k = 0;
  handed = handed | bit(x)
}

/* Forgets what an awake reader does not keep. */
inline stop_taking() { phase = awake }

inline take(x) {
  if
  :: phase != asleep
#ifdef LOOKS
  :: phase == asleep && x == NONE -> phase = looking
#else
  :: phase == asleep && x == NONE -> stop_taking()
#endif
#ifdef BROKEN_COVERED_TAKEN
  :: phase == asleep && x != NONE && false
#else
  :: phase == asleep && x != NONE && (complete & bit(tx_of[x]))
#endif
#ifdef BROKEN_COVERED_TAKEN
  :: phase == asleep && x != NONE ->
#else
  :: phase == asleep && x != NONE && !(complete & bit(tx_of[x])) ->
#endif
    if
    :: notified & bit(x)
    :: else -> hand_out(x); notified = notified | bit(x)
    fi;
#ifdef LOOKS
    /* Many changes may be remembered. */
    if
    :: phase = looking
    :: true
    fi
#endif
  fi
}

inline announce(x) {
  if
  :: phase == asleep -> take(x)
#ifdef BROKEN_TAKEN_WHILE_TURNING
  :: phase == turning -> phase = asleep; take(x); phase = turning
#else
#ifdef BROKEN_NOT_HELD
  :: phase == turning
#else
  :: phase == turning && nfull(held) -> held!x
  :: phase == turning && full(held) -> stop_taking()
#ifdef BROKEN_LOST_WHILE_LOOKING
  :: phase == looking
#else
  :: phase == looking && nfull(held) -> held!x
  :: phase == looking && full(held) -> stop_taking()
#endif
#endif
#endif
#ifdef BROKEN_TAKEN_WHILE_AWAKE
  :: phase == awake ->
    if
    :: x != NONE && !(complete & bit(tx_of[x])) && !(notified & bit(x)) -> hand_out(x); notified = notified | bit(x)
    :: else
    fi
#else
  :: phase == awake
#endif
  fi
}

inline empty_held() {
  do
  :: nempty(held) -> held?_
  :: empty(held) -> break
  od
}

active proctype writers() {
  byte i;
  do
  /* A statement: it takes the lock of the application's row, logs the change, and tries the sleep lock. */
  :: atomic { drawn < CHANGES -> select(i : 0 .. TXS - 1);
      if
      :: tx[i] == idle || tx[i] == open -> tx[i] = open; tx_of[drawn] = i;
        if
        :: lock_of == NONE || lock_of == i -> lock_of = i; contested[drawn] = true
        :: true
        fi;
        if
        :: lock_held -> announced = announced | bit(drawn)
#ifdef BROKEN_SHARE_NOT_KEPT
        :: !lock_held
#else
        :: !lock_held -> shares = shares | bit(i)
#endif
        fi;
        drawn++
      :: else
      fi;
      i = 0 }
  :: atomic { select(i : 0 .. TXS - 1);
      if
      :: tx[i] == open ->
        if
        :: tx[i] = committed;
          for (c : 0 .. CHANGES - 1) {
            if
            :: c < drawn && tx_of[c] == i && (announced & bit(c)) -> send(change_is, c, secret)
            :: else
            fi
          }
        :: tx[i] = aborted
        fi;
        c = 0;
        shares = shares & ~bit(i);
        if
        :: lock_of == i -> lock_of = NONE
        :: else
        fi
      :: else
      fi;
      i = 0 }
  od
}

active proctype listener() {
  mtype kind; byte x, sign;
  do
  :: atomic { queue?kind,x,sign ->
      if
      :: kind == marker_is ->
#ifdef BROKEN_ANY_MARKER
        marker = 0
#else
        if
        :: x == marker -> marker = 0
        :: else
        fi
#endif
      :: kind == change_is && sign == my_secret -> announce(x)
#ifdef BROKEN_FORGERY_IGNORED
      :: kind == change_is && sign != my_secret
      :: kind == forgery_is && sign != my_secret
#else
      :: kind == change_is && sign != my_secret -> announce(NONE)
      :: kind == forgery_is && sign != my_secret -> announce(NONE)
#endif
      :: kind == forgery_is && sign == my_secret -> assert(forgery_refused)  /* It is believed. */
      fi;
      kind = 0; x = 0; sign = 0 }
  od
}

inline read_page() {
  if
  :: !in_pass -> in_pass = true; snapshot(pass); after = 0
  :: else
  fi;
  page = 0; last_page = true;
  for (c : 0 .. CHANGES - 1) {
    if
    :: c >= after && c < drawn && (pass & bit(tx_of[c])) && !(complete & bit(tx_of[c])) -> page = page | bit(c)
    :: else
    fi
  }
  if
  :: page != 0 -> /* A short page. */
    last_page = false;
    c = 0;
    do
    :: page & bit(c) -> break
    :: else -> c++
    od;
    page = bit(c)
  :: true
  fi;
  c = 0
}

inline answer_page() {
  for (c : 0 .. CHANGES - 1) {
    if
    :: page & bit(c) ->
      after = c + 1;
#ifndef BROKEN_NOTIFIED_FORGOTTEN
      if
      :: !(notified & bit(c)) -> hand_out(c)
      :: else
      fi
#else
      hand_out(c)
#endif
    :: else
    fi
  }
  page = 0;
  if
  :: last_page -> complete = pass; notified = 0; in_pass = false; after = 0; pass = 0;
    for (c : 0 .. CHANGES - 1) {
      assert(nothing_lost || !(c < drawn && (complete & bit(tx_of[c])) && !(handed & bit(c))))
    }
  :: else
  fi;
  c = 0
}

inline new_term() {
  terms++; faults++;
  phase = awake; at = ready; marker = 0; complete = 0; pass = 0; in_pass = false; last_page = false; after = 0; page = 0; notified = 0; handed = 0;
  turns_to_sleep = false; deaf = false; deaf_at_lock = false;
  empty_held();
  term_secret = secret;
#ifndef BROKEN_SECRET_OF_ANOTHER_TERM
  my_secret = secret;
#endif
  lock_stale = lock_held; locked = false
}

active proctype reader() {
  do
  :: atomic { at == ready -> read_page(); at = page_read }
  :: atomic { at == page_read && !turns_to_sleep -> answer_page(); at = ready; last_page = false }
  /* Falls asleep only after a complete pass. */
  :: atomic { at == ready && !in_pass && markers < ATTEMPTS && !(lock_held && !locked) && shares == 0 ->
      lock_held = true; markers++; marker = markers; deaf_at_lock = deaf; send(marker_is, markers, 0); at = locking }
  :: atomic { at == locking -> locked = true; phase = turning; turns_to_sleep = true;
#ifdef BROKEN_NO_LAST_LOOK
      at = marker_waits
#else
      read_page(); at = last_look
#endif
    }
  :: atomic { at == last_look -> answer_page();
      if
      :: last_page -> at = marker_waits; last_page = false
      :: true -> stop_taking(); at = unlocking; last_page = false
      fi }
  :: atomic { at == marker_waits && phase == turning && MARKER_ARRIVED ->
      phase = asleep; at = sleeping_now;
      assert(deaf_is_noticed || !deaf_at_lock);
      do
      :: nempty(held) -> held?kk; take(kk)
      :: empty(held) -> break
      od;
      kk = 0 }
#ifdef LOOKS
  /* Asleep, a pass over the log. */
  :: atomic { at == sleeping_now && phase == looking -> read_page(); at = look_read }
  :: atomic { at == look_read -> answer_page(); at = sleeping_now;
      if
      :: phase == looking && last_page -> phase = asleep; last_page = false;
        do
        :: nempty(held) -> held?kk; take(kk)
        :: empty(held) -> break
        od;
        kk = 0
      :: phase == looking && !last_page -> stop_taking()
      :: else -> last_page = false
      fi }
#endif
  /* Turns back or wakes up. */
  :: atomic { at == marker_waits || at == sleeping_now -> stop_taking(); at = unlocking }
  :: atomic { at == unlocking -> phase = awake; empty_held(); marker = 0; turns_to_sleep = false; lock_held = false; locked = false; at = ready }
  /* Each change that is committed was handed out. */
  :: atomic { at == sleeping_now && phase == asleep && empty(queue) && !deaf ->
      for (c : 0 .. CHANGES - 1) {
        assert(nothing_lost || c >= drawn || tx[tx_of[c]] != committed || handed & bit(c))
      }
      c = 0 }
  od
}

active proctype faulty() {
  do
  :: atomic { faults < FAULTS -> new_term() }
  :: atomic { lock_stale -> lock_stale = false; lock_held = false }
  :: atomic { faults < FAULTS && !deaf -> faults++; deaf = true }
  :: atomic { deaf && faults == FAULTS -> faults--; new_term() }
  :: atomic { secret < SECRETS -> secret++ }
  :: atomic { faults < FAULTS && nfull(queue) -> faults++;
      if
      :: term_secret > 0 -> send(forgery_is, 0, term_secret - 1)
      :: send(forgery_is, 0, NONE)
      fi }
  od
}
