// Rows of one stream or of all: what was asked for, and what was pushed since.

import { MINUTE } from "./format.js";
import { LEVELS, METRICS, each, valueOf } from "./metrics.js";

/** A row as the page works with it, with a member for each metric. `unknown`: names of those that are null in what was sent. */
function rowOf(sent) {
  const unknown = METRICS.filter(({ name }) => sent[name] === null).map(({ name }) => name);
  return { ...each(METRICS, (metric) => valueOf(metric, sent)), unknown, start: Date.parse(sent.window_start) };
}

/** A row without what is of its end. */
export function withoutLevels(row) {
  return { ...row, ...each(LEVELS, () => null) };
}

export class Series {
  #grain;
  #asked = new Map();
  #pushed = new Map();

  /** The newest commit that all of it is of. */
  epoch = null;
  watermark = null;

  /** Of windows of this length. */
  constructor(grain) {
    this.#grain = grain;
  }

  /** Takes the place of all but what later commits have pushed since. */
  answer(rows, epoch, watermark) {
    this.#asked = new Map(rows.map(rowOf).map((row) => [row.start, row]));
    for (const [start, { since }] of this.#pushed) if (epoch !== null && since <= epoch) this.#pushed.delete(start);
    this.#advance(epoch, watermark);
  }

  /** A commit changed these rows, and perhaps more if they are not the whole of it. Rows of minutes are pushed, and no others. */
  push(rows, { epoch, watermark, whole }) {
    if (this.#grain.grows || (this.epoch !== null && epoch < this.epoch)) return;
    for (const sent of rows) {
      const row = rowOf(sent);
      this.#pushed.set(row.start, { row, since: epoch });
    }
    if (whole) this.#advance(epoch, watermark);
  }

  /** What was pushed, and how far it led, is no longer to be trusted: an answer follows. */
  reset() {
    this.#pushed.clear();
    this.epoch = null;
    this.watermark = null;
  }

  /** A window is final if it ended by the watermark. */
  isFinal(start, end = start + this.#grain.width) {
    return this.watermark !== null && end <= this.watermark;
  }

  /** The instant at which a row's levels were counted: the end of its window, or of its last closed minute while it grows. */
  levelAt(start) {
    const end = start + this.#grain.width;
    return this.#grain.grows && this.watermark !== null ? Math.min(end, Math.floor(this.watermark / MINUTE) * MINUTE) : end;
  }

  /** The rows of windows that start in [from, to), oldest first. */
  between(from, to) {
    const all = new Map(this.#asked);
    for (const [start, { row }] of this.#pushed) all.set(start, row);
    const inside = [...all.values()].filter(({ start }) => start >= from && start < to);
    return inside.sort((a, b) => a.start - b.start);
  }

  #advance(epoch, watermark) {
    if (epoch !== null) this.epoch = Math.max(epoch, this.epoch ?? 0);
    if (watermark !== null) this.watermark = Math.max(watermark, this.watermark ?? -Infinity);
  }
}

/** Of each metric the exact sum of rows (null if one of them is), or the row with its highest value (null if there is none). */
export function totals(rows) {
  return each(METRICS, ({ name, adds, zero }) => {
    if (adds) return rows.reduce((sum, row) => plus(sum, row[name]), zero);
    return rows.reduce((peak, row) => (row[name] === null || peak?.[name] >= row[name] ? peak : row), null);
  });
}

const plus = (a, b) => (a === null || b === null ? null : a + b);

/**
 * Rows put together in buckets of this width, without gaps: sums and highest values as of `totals`. `unknown` are the metrics that are null in
 * one of the rows.
 */
export function buckets(series, rows, from, to, width) {
  // Buckets begin where the clock has round figures, so they do not move with the range.
  const first = Math.floor(from / width) * width;
  const all = [];
  const empty = each(METRICS, ({ adds, zero }) => (adds ? zero : null));
  for (let start = first; start < to; start += width) all.push({ ...empty, unknown: new Set(), start, end: start + width });
  for (const row of rows) {
    const bucket = all[Math.floor((row.start - first) / width)];
    for (const name of row.unknown) bucket.unknown.add(name);
    for (const { name, adds } of METRICS) {
      if (adds) bucket[name] = plus(bucket[name], row[name]);
      else if (bucket[name] === null || row[name] > bucket[name]) bucket[name] = row[name];
    }
  }
  for (const bucket of all) bucket.final = series.isFinal(bucket.start, bucket.end);
  return all;
}

/** Windows per bar: so many minutes that there are at most about 100 bars; one hour, one day. */
export function bucketSize(minutes, { width, sizes }) {
  return sizes.find((size) => (minutes * MINUTE) / (size * width) <= 100) ?? sizes.at(-1);
}
