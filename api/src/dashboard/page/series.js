// Minutes of one stream or of all: what was asked for, and what was pushed since.

import { MINUTE } from "./format.js";
import { cents } from "./money.js";

/** A minute as the page works with it. `streams` is null where it is one stream's. */
function minuteOf(row) {
  return {
    start: Date.parse(row.window_start),
    viewers: row.active_viewers,
    chats: row.chat_messages,
    cents: cents(row.donations_usd),
    streams: row.streams ?? null,
  };
}

export class Series {
  #asked = new Map();
  #pushed = new Map();

  /** The newest commit that all of it is of. */
  epoch = null;
  watermark = null;

  /** Takes the place of all but what later commits have pushed since. */
  answer(rows, epoch, watermark) {
    this.#asked = new Map(rows.map(minuteOf).map((minute) => [minute.start, minute]));
    for (const [start, { since }] of this.#pushed) if (epoch !== null && since <= epoch) this.#pushed.delete(start);
    this.#advance(epoch, watermark);
  }

  /** A commit changed these rows, and perhaps more if they are not the whole of it. */
  push(rows, { epoch, watermark, whole }) {
    if (this.epoch !== null && epoch < this.epoch) return;
    for (const row of rows) {
      const minute = minuteOf(row);
      this.#pushed.set(minute.start, { minute, since: epoch });
    }
    if (whole) this.#advance(epoch, watermark);
  }

  /** What was pushed, and how far it led, is no longer to be trusted: an answer follows. */
  reset() {
    this.#pushed.clear();
    this.epoch = null;
    this.watermark = null;
  }

  /** A minute is final if it ended by the watermark. */
  isFinal(start, end = start + MINUTE) {
    return this.watermark !== null && end <= this.watermark;
  }

  /** The minutes that start in [from, to), oldest first. */
  between(from, to) {
    const all = new Map(this.#asked);
    for (const [start, { minute }] of this.#pushed) all.set(start, minute);
    const inside = [...all.values()].filter(({ start }) => start >= from && start < to);
    return inside.sort((a, b) => a.start - b.start);
  }

  #advance(epoch, watermark) {
    if (epoch !== null) this.epoch = Math.max(epoch, this.epoch ?? 0);
    if (watermark !== null) this.watermark = Math.max(watermark, this.watermark ?? -Infinity);
  }
}

/** Sums of minutes: amounts exactly, and the highest count of viewers with its minute. */
export function totals(minutes) {
  const sums = { chats: 0, cents: 0n, peak: null };
  for (const minute of minutes) {
    sums.chats += minute.chats;
    sums.cents += minute.cents;
    if (minute.viewers !== null && !(sums.peak?.viewers >= minute.viewers)) sums.peak = minute;
  }
  return sums;
}

/** Minutes put together by `size` of them, without gaps: sums, and the highest count of viewers (null if there is none). */
export function buckets(series, minutes, from, to, size) {
  const width = size * MINUTE;
  // Buckets begin where the clock has round figures, so they do not move with the range.
  const first = Math.floor(from / width) * width;
  const all = [];
  for (let start = first; start < to; start += width) all.push({ start, end: start + width, viewers: null, chats: 0, cents: 0n });
  for (const minute of minutes) {
    const bucket = all[Math.floor((minute.start - first) / width)];
    if (minute.viewers !== null) bucket.viewers = Math.max(minute.viewers, bucket.viewers ?? 0);
    bucket.chats += minute.chats;
    bucket.cents += minute.cents;
  }
  for (const bucket of all) bucket.final = series.isFinal(bucket.start, bucket.end);
  return all;
}

/** Minutes per bar, so that there are at most about 100 bars. */
export function bucketSize(minutes) {
  return [1, 2, 5, 15].find((size) => minutes / size <= 100) ?? 15;
}
