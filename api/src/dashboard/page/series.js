// Minutes of one stream or of all: what was asked for, and what was pushed since.

import { MINUTE } from "./format.js";
import { LEVELS, METRICS, each, valueOf } from "./metrics.js";

/** A minute as the page works with it, with a member for each metric. `unknown`: names of those that are null in the row. */
function minuteOf(row) {
  const unknown = METRICS.filter(({ name }) => row[name] === null).map(({ name }) => name);
  return { ...each(METRICS, (metric) => valueOf(metric, row)), unknown, start: Date.parse(row.window_start) };
}

/** A minute without what is of its end. */
export function withoutLevels(minute) {
  return { ...minute, ...each(LEVELS, () => null) };
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

/** Of each metric the exact sum of minutes (null if one of them is), or the minute with its highest value (null if there is none). */
export function totals(minutes) {
  return each(METRICS, ({ name, adds, zero }) => {
    if (adds) return minutes.reduce((sum, minute) => plus(sum, minute[name]), zero);
    return minutes.reduce((peak, minute) => (minute[name] === null || peak?.[name] >= minute[name] ? peak : minute), null);
  });
}

const plus = (a, b) => (a === null || b === null ? null : a + b);

/**
 * Minutes put together by `size` of them, without gaps: sums and highest values as of `totals`. `unknown` are the metrics that are null in
 * one of the rows.
 */
export function buckets(series, minutes, from, to, size) {
  const width = size * MINUTE;
  // Buckets begin where the clock has round figures, so they do not move with the range.
  const first = Math.floor(from / width) * width;
  const all = [];
  const empty = each(METRICS, ({ adds, zero }) => (adds ? zero : null));
  for (let start = first; start < to; start += width) all.push({ ...empty, unknown: new Set(), start, end: start + width });
  for (const minute of minutes) {
    const bucket = all[Math.floor((minute.start - first) / width)];
    for (const name of minute.unknown) bucket.unknown.add(name);
    for (const { name, adds } of METRICS) {
      if (adds) bucket[name] = plus(bucket[name], minute[name]);
      else if (bucket[name] === null || minute[name] > bucket[name]) bucket[name] = minute[name];
    }
  }
  for (const bucket of all) bucket.final = series.isFinal(bucket.start, bucket.end);
  return all;
}

/** Minutes per bar, so that there are at most about 100 bars. */
export function bucketSize(minutes) {
  return [1, 2, 5, 15].find((size) => minutes / size <= 100) ?? 15;
}
