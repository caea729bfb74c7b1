/**
 * How busy the writers are, and what follows for the reader: whether it wakes up, whether it may fall asleep, and how long it waits between
 * two passes.
 *
 * The rate is the number of changes in about the last fifty milliseconds: a change counts less the longer ago it was. Above `busy` the
 * reader wakes up, below `quiet` it may fall asleep, and in between it stays as it is.
 *
 * While the reader is asleep, the server commits the transactions that notify one after the other. A transaction says so if it finds another one that is
 * about to notify. When most transactions do, for a while, the writers wait for each other, and their rate tells how fast the disk is
 * and not how many changes there would be. The reader wakes up, and is *wary* for a quarter of a second: it sleeps only if there is little
 * to do. It is wary for twice as long when the same happens soon again.
 */
const WINDOW = 50;
/** Changes in the window: 75 are 1,500 per second. */
const TRUSTING = { busy: 75, quiet: 60 };
const WARY = { busy: 32, quiet: 8 };

/** Milliseconds: over how long the transactions are counted that wait for each other, and how long they do until the reader is wary. */
const CROWD = { window: 100, duration: 300, atLeast: 4 };
/**
 * Milliseconds: for how long the reader is wary, and how soon after that a crowd has to come again to be no hiccup. Writers that begin together are a crowd
 * until their sessions have made their plans.
 */
const WARINESS = { min: 250, max: 32_000, soon: 1000 };

/** Between two passes, in milliseconds. In between, a pause is as long as a pass: the reader spends half of its time reading. */
const PAUSE = { min: 1, max: 20 };

export class WriteRate {
  readonly #changes = new RecentCount(WINDOW);
  readonly #alone = new RecentCount(CROWD.window);
  readonly #crowded = new RecentCount(CROWD.window);
  /** Since when most transactions have waited for each other. */
  #crowdSince = Infinity;
  #wary = { until: -Infinity, duration: WARINESS.min };
  /** How long a pass takes, in milliseconds: the mean of the last few. */
  #passTime = 0;

  add(changes: number): void {
    this.#changes.add(changes);
  }

  /** Changes of a transaction that notified. `crowded`: another transaction was about to notify too. */
  addNotified(changes: number, crowded: boolean): void {
    this.add(changes);
    (crowded ? this.#crowded : this.#alone).add(1);
    const now = performance.now();
    const isCrowd = this.#crowded.value >= CROWD.atLeast && this.#crowded.value > this.#alone.value;
    this.#crowdSince = isCrowd ? Math.min(this.#crowdSince, now) : Infinity;
    if (now - this.#crowdSince >= CROWD.duration && !this.#isWary) this.#becomeWary(now);
  }

  #becomeWary(now: number): void {
    const { until, duration } = this.#wary;
    const isSoon = now < until + WARINESS.soon + duration;
    this.#wary.duration = isSoon ? Math.min(2 * duration, WARINESS.max) : WARINESS.min;
    this.#wary.until = now + this.#wary.duration;
    this.#crowdSince = Infinity;
    this.add(TRUSTING.busy);
  }

  get #isWary(): boolean {
    return performance.now() < this.#wary.until;
  }

  get isBusy(): boolean {
    return this.#changes.value > (this.#isWary ? WARY : TRUSTING).busy;
  }

  get isQuiet(): boolean {
    return this.#changes.value < (this.#isWary ? WARY : TRUSTING).quiet;
  }

  /**
   * To be called with how long a pass that found changes took, in milliseconds. A pass that waited for a slow consumer took long, which says nothing of
   * the next one: so a pass counts no more than is needed for the longest pause.
   */
  took(passTime: number): void {
    this.#passTime += (Math.min(passTime, PAUSE.max) - this.#passTime) / 4;
  }

  /**
   * Milliseconds until the next pass over the log. The longer passes take, the longer the pause: the server and the node are busy then, and a
   * pass takes from the writers what it costs.
   */
  get pause(): number {
    return Math.min(Math.max(this.#passTime, PAUSE.min), PAUSE.max);
  }
}

/** Counts what happens, less the longer ago it was: by a factor of e for each window. */
class RecentCount {
  readonly #window: number;
  #value = 0;
  #at = performance.now();

  constructor(window: number) {
    this.#window = window;
  }

  get value(): number {
    return this.#value * Math.exp((this.#at - performance.now()) / this.#window);
  }

  add(count: number): void {
    this.#value = this.value + count;
    this.#at = performance.now();
  }
}
