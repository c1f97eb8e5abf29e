// The service's push of changed rows. A connection that breaks is opened again: by the browser, with the last event's id, or
// from the beginning where the browser gives up, as it does after an error status.

import { parseExactly } from "./metrics.js";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 10_000;

export class Live {
  #listener;
  #streams = [];
  #wanted = false;
  #source = null;
  #timer = null;
  #pause = FIRST_PAUSE;

  /** The listener has `opened()`, `lost()`, `rows(rows, {epoch, watermark, whole})` and `reset()`. */
  constructor(listener) {
    this.#listener = listener;
    // A hidden page holds none of the few connections that a browser has for a service.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.restart()));
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.restart());
  }

  /**
   * Rows of these streams from now on; of all, if there are none. The service tells of commits that changed others only, too,
   * but no more than once a second.
   */
  watch(streams) {
    this.#streams = streams;
    this.#wanted = true;
    this.restart();
  }

  /** Nothing from now on. */
  stop() {
    this.#wanted = false;
    this.#close();
  }

  /** Opens the connection afresh. */
  restart() {
    this.#close();
    if (document.hidden || !this.#wanted) return;
    const query = new URLSearchParams(this.#streams.map((id) => ["stream_id", id]));
    const source = new EventSource(`live?${query}`);
    source.onopen = () => {
      this.#pause = FIRST_PAUSE;
      this.#listener.opened();
    };
    source.onerror = () => {
      this.#listener.lost();
      if (source.readyState === EventSource.CLOSED) this.#openLater();
    };
    source.addEventListener("rows", (event) => {
      const { epoch, watermark, rows } = parseExactly(event.data);
      // Only the last event of a commit has an id, which begins with its number: then nothing of that commit is missing.
      this.#listener.rows(rows, { epoch, watermark: watermark ? Date.parse(watermark) : null, whole: event.lastEventId.split("-")[0] === String(epoch) });
    });
    source.addEventListener("reset", () => this.#listener.reset());
    this.#source = source;
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #openLater() {
    this.#close();
    this.#timer = setTimeout(() => this.restart(), this.#pause);
    this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
  }
}
