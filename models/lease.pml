/*
 * The lease (src/node/lease.ts): which node is the active one, and who may acknowledge.
 *
 * NODES nodes run the protocol against one row of the lock table. Each statement is sent, is applied
 * in the database, and is answered, in three steps, with anything in between. Times are in renewal intervals.
 *
 * What fails, at any moment:
 * - A process is frozen, cut off or slow: no step is ever urgent, so that each can come arbitrarily late. It can crash and start again.
 * - The server drops a session, and the node hears nothing.
 * - The database's clock is set forward or back.
 * - A node's machine is suspended: its monotonic clock stands still. A node's wall clock is set back. One of the two in a run, since a
 *   node that suffers both at once has no clock left.
 *
 * What is checked:
 * - When a node claims, no other one trusts its lease, with two exceptions, in which only the fence protects: the server dropped the
 *   session of the other node unheard; or the database's clock was set forward, and the other node was silent for two renewals (or the
 *   claiming node has version 0.1.0, which believes that clock at once).
 * - A node hands out only when it trusts, so that it is the holder, with the same exceptions.
 * - An acknowledgement takes effect only under the present token.
 *
 * What is left out, and why that is safe:
 * - Polls, timeouts and the notification of a release say only when a step is taken, and every step may be taken at any moment.
 * - An observation is one step. The code measures from the answer to one question until it asks the next, which is never longer.
 * - The expiry that a claim names is a bit for each node, which says whether the row was written since it was observed. Two different renewals that
 *   write the same microsecond are left out.
 * - Tokens count claims. That they also rise when the server loses its last claims is arithmetic (greatest of token + 1 and the clock).
 * - Time is discrete. All bounds are multiples of the step, and the margin is one step.
 * - Liveness is left to the tests: it depends on timers, which are left out here.
 *
 * What is searched: two nodes, two claims, two faults of those above, any number of steps. In the second run a node has version 0.1.0. A
 * duration of 4 keeps the search small; the claim of MISSED renewals and the trust of 3 stay apart.
 * run: -DNODES=2
 * run: -DNODES=2 -DOLD=1
 * broken: CLAIM_BY_DATABASE_CLOCK : holder_hands_out
 * broken: CLAIM_WITHOUT_COMPARISON : holder_hands_out
 * broken: IMPATIENT : holder_hands_out
 * broken: ONE_CLOCK : holder_hands_out
 * broken: RELEASE_WHILE_TRUSTED : holder_hands_out
 * broken: UNFENCED : fenced
 */
#ifndef NODES
#define NODES 2
#endif
#define CLAIMS 2        /* claims in a run */
#define FAULTS 2        /* faults in a run, besides lateness */
#ifndef DURATION
#define DURATION 4
#endif
#define MARGIN 1
#define MISSED 2        /* renewals */
#define NOBODY NODES
#ifndef OLD
#define OLD NOBODY      /* the node of version 0.1.0 */
#endif

/* Never true. They name the assertions. */
hidden byte one_trusts, holder_hands_out, fenced;

mtype = { standby, decided, claiming, claimed, failed, holder, renewing, renewed, denied, releasing };

/* The row, and what the server knows of the session that claimed. */
byte db_holder = NOBODY;
byte db_token;
byte db_left;           /* until the expiry by the database's clock */
bool db_session;
bool set_forward;       /* the database's clock was, since the row was last written */
byte silent;            /* time since the row was last written, at most MISSED */

typedef Node {
  mtype state = standby;
  bool session = true;  /* the server has the node's session */
  bool dead;            /* what the node observed when it decided to claim */
  bool known;           /* the row was not written since the node observed it */
  byte unchanged;       /* for so long, by the monotonic clock */
  byte token;
  byte mono; byte wall;           /* since the start of the last renewal that succeeded */
  byte try_mono; byte try_wall;   /* since the start of the statement that is under way */
  bool suspended;
  bool excused;
};
Node node[NODES];

byte claims, faults;
bool node_clock_fault;
hidden byte i, j;

#define later(x, most) x = (x < most -> x + 1 : x)
#define TRUSTED (DURATION - MARGIN)
#define MAX(a, b) (a > b -> a : b)
#ifdef BROKEN_ONE_CLOCK
#define AGE(n) node[n].mono
#else
#define AGE(n) MAX(node[n].mono, node[n].wall)
#endif
#define HOLDS(n) (node[n].state == holder || node[n].state == renewing || node[n].state == renewed || node[n].state == denied)
#ifdef BROKEN_RELEASE_WHILE_TRUSTED
#define TRUSTS(n) ((HOLDS(n) || node[n].state == releasing) && AGE(n) < TRUSTED)
#else
#define TRUSTS(n) (HOLDS(n) && AGE(n) < TRUSTED)
#endif
#define DEAD (db_holder != NOBODY && !db_session)
#define EXPIRED (db_left == 0)
#define IS_PRESENT(n) (db_holder == n && db_token == node[n].token)

inline forget(n) {
  node[n].state = standby; node[n].token = 0; node[n].dead = false; node[n].known = false; node[n].unchanged = 0;
  node[n].mono = 0; node[n].wall = 0; node[n].try_mono = 0; node[n].try_wall = 0;
  node[n].excused = false;
}

/* The row is written: no observation is up to date any more. */
inline written() {
  for (j : 0 .. NODES - 1) { node[j].known = false; node[j].unchanged = 0 }
  silent = 0; set_forward = false;
}

inline start_statement(n) { node[n].try_mono = 0; node[n].try_wall = 0 }

inline succeeded(n) {
  node[n].mono = node[n].try_mono; node[n].wall = node[n].try_wall; node[n].try_mono = 0; node[n].try_wall = 0;
}

inline observe(n) {
  if
  :: !node[n].known -> node[n].known = true; node[n].unchanged = 0
  :: else
  fi;
  node[n].dead = DEAD;
  if
  :: db_holder == NOBODY || DEAD -> node[n].state = decided
#ifdef BROKEN_CLAIM_BY_DATABASE_CLOCK
  :: EXPIRED -> node[n].state = decided
#else
  :: n == OLD && EXPIRED -> node[n].state = decided
  :: n != OLD && EXPIRED && node[n].unchanged >= MISSED -> node[n].state = decided
#endif
#ifdef BROKEN_IMPATIENT
  :: n != OLD && node[n].unchanged >= MISSED -> node[n].state = decided
#else
  :: n != OLD && node[n].unchanged >= DURATION -> node[n].state = decided
#endif
  :: else
  fi
}

/* Version 0.1.0 names the token, and asks the database's clock again, unless it observed a dead session. */
#ifdef BROKEN_CLAIM_WITHOUT_COMPARISON
#define MAY_CLAIM(n) true
#else
#define MAY_CLAIM(n) (n == OLD && node[n].token == db_token && (db_holder == NOBODY || EXPIRED || node[n].dead) || n != OLD && node[n].known)
#endif

inline apply_claim(n) {
  if
  :: MAY_CLAIM(n) && claims < CLAIMS ->
    for (j : 0 .. NODES - 1) {
      if
      :: j != n && db_holder == j ->
        /* It may trust now, or as soon as it gets the answer to a statement that was applied. */
        node[j].excused = !db_session || set_forward && (n == OLD || silent >= MISSED);
        assert(one_trusts || !TRUSTS(j) || node[j].excused)
      :: else
      fi
    }
    claims++;
    db_token++; db_holder = n; db_left = DURATION; db_session = true;
    written();
    node[n].token = db_token; node[n].excused = false; node[n].state = claimed
  :: else -> node[n].state = failed
  fi
}

active proctype world() {
  do
  :: atomic { /* Time passes. */
      if
      :: db_left > 0 -> db_left--
      :: else
      fi;
      later(silent, MISSED);
      for (j : 0 .. NODES - 1) {
        if
        :: HOLDS(j) || node[j].state == releasing -> later(node[j].wall, TRUSTED);
          if
          :: !node[j].suspended -> later(node[j].mono, TRUSTED)
          :: else
          fi
        :: else
        fi;
        if
        :: node[j].state == claiming || node[j].state == claimed || node[j].state == renewing || node[j].state == renewed ->
          later(node[j].try_wall, TRUSTED);
          if
          :: !node[j].suspended -> later(node[j].try_mono, TRUSTED)
          :: else
          fi
        :: else
        fi;
        if
        :: node[j].known && !node[j].suspended && j != OLD -> later(node[j].unchanged, DURATION)
        :: else
        fi
      }
    }
  :: atomic { /* The database's clock is set. */
      faults < FAULTS && db_holder != NOBODY -> faults++;
      if
      :: db_left = 0; set_forward = true
      :: db_left = DURATION + MISSED
      fi
    }
  :: atomic { /* A node takes a step, or something happens to it. */
      select(i : 0 .. NODES - 1);
      if
      /* Standing by. */
      :: node[i].state == standby && node[i].session && !node[i].suspended ->
        node[i].token = (i == OLD -> db_token : 0);
        observe(i)
      :: node[i].state == decided && !node[i].suspended -> start_statement(i); node[i].state = claiming
      :: node[i].state == claiming && node[i].session -> apply_claim(i)
      :: node[i].state == claimed && !node[i].suspended -> node[i].state = holder; node[i].dead = false; succeeded(i)
      :: node[i].state == failed && !node[i].suspended ->
        node[i].state = standby; node[i].token = 0; node[i].dead = false; node[i].try_mono = 0; node[i].try_wall = 0
      /* Holding. */
      :: node[i].state == holder && !node[i].suspended && TRUSTS(i) -> start_statement(i); node[i].state = renewing
      :: node[i].state == renewing && node[i].session ->
        if
        :: IS_PRESENT(i) -> db_left = DURATION; written(); node[i].state = renewed
        :: else -> node[i].state = denied
        fi
      :: node[i].state == renewed && !node[i].suspended -> node[i].state = holder; succeeded(i)
      :: node[i].state == denied && !node[i].suspended -> forget(i)
      :: HOLDS(i) && !TRUSTS(i) && !node[i].suspended -> forget(i)
      /* Handing out, and acknowledging, which goes on when the trust is over. */
      :: TRUSTS(i) && !node[i].suspended -> assert(holder_hands_out || IS_PRESENT(i) || node[i].excused)
#ifdef BROKEN_UNFENCED
      :: HOLDS(i) && node[i].session -> assert(fenced || IS_PRESENT(i))
#endif
      /* Releasing: the trust ends first. */
      :: node[i].state == holder && !node[i].suspended -> node[i].state = releasing
      :: node[i].state == releasing && node[i].session ->
        if
        :: IS_PRESENT(i) -> db_holder = NOBODY; db_left = 0; db_session = false; written()
        :: else
        fi;
#ifdef BROKEN_RELEASE_WHILE_TRUSTED
        node[i].state = holder
#else
        forget(i)
#endif
      /* A node without a session notices, and joins again. */
      :: !node[i].session && !node[i].suspended -> forget(i); node[i].session = true
      /* Faults. */
      :: node[i].session && faults < FAULTS -> faults++; node[i].session = false;
        if
        :: db_holder == i -> db_session = false
        :: else
        fi
      :: faults < FAULTS -> faults++; forget(i); node[i].session = true;
        if
        :: db_holder == i -> db_session = false
        :: else
        fi
      :: !node_clock_fault && faults < FAULTS -> faults++; node_clock_fault = true; node[i].suspended = true
      :: node[i].suspended -> node[i].suspended = false
      :: !node_clock_fault && faults < FAULTS && HOLDS(i) -> faults++; node_clock_fault = true; node[i].wall = 0; node[i].try_wall = 0
      :: else
      fi
    }
  od
}
