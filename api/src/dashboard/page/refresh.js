// Work that is done again when something has changed, one run at a time, and never more often than the service can bear.

const QUIET = 5_000; // between two runs when nothing is known to have changed
const SHARE = 4; // and this many times as long as a run took: at most a fifth of the time is spent on asking
const MOST_BACKOFF = 10_000;

export class Refresh {
  #work;
  #least;
  #timer = null;
  #abort = null;
  #failures = 0;
  #cost = 0;
  #endedAt = -Infinity;

  /** `work(signal)` returns a promise and rejects on failure; between two runs are `least` milliseconds in any case. */
  constructor(work, least = 1_000) {
    this.#work = work;
    this.#least = least;
    document.addEventListener("visibilitychange", () => document.hidden || this.poke());
  }

  /** Something has changed: run as soon as is fair. */
  poke() {
    if (this.#abort || this.#failures > 0) return;
    this.#plan(Math.max(this.#least, SHARE * this.#cost));
  }

  /** What is asked for has changed: give up what runs and start at once. */
  restart() {
    this.#abort?.abort();
    this.#abort = null;
    this.#failures = 0;
    this.#endedAt = -Infinity;
    this.#plan(0);
  }

  #plan(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), Math.max(0, this.#endedAt + pause - performance.now()));
  }

  async #run() {
    // A page that nobody sees asks nothing; it is poked when it is seen again.
    if (document.hidden) return;
    const abort = new AbortController();
    const started = performance.now();
    this.#abort = abort;
    try {
      await this.#work(abort.signal);
      this.#failures = 0;
    } catch {
      // The work itself shows what went wrong.
      this.#failures += 1;
    }
    if (this.#abort !== abort) return;
    this.#abort = null;
    this.#endedAt = performance.now();
    this.#cost = this.#endedAt - started;
    this.#plan(this.#failures ? Math.min(MOST_BACKOFF, 1_000 * 2 ** (this.#failures - 1)) : Math.max(QUIET, SHARE * this.#cost));
  }
}
