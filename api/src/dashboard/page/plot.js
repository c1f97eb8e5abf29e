// The three charts over one axis of time, with one cursor that pointer and arrow keys move.

import { byId, setAttribute, setText, shape } from "./dom.js";
import { MINUTE, clock, count, day, moment, short } from "./format.js";
import { drawLane, scaleOf } from "./lane.js";
import { dollars, roughDollars } from "./money.js";

const LANES = [
  { id: "viewers", kind: "line", height: 148, whole: true, number: (b) => b.viewers, show: (b) => (b.viewers === null ? "–" : count(b.viewers)), axis: short },
  { id: "chats", kind: "bars", height: 92, whole: true, number: (b) => b.chats, show: (b) => count(b.chats), axis: short },
  { id: "donations", kind: "bars", height: 112, whole: false, number: (b) => roughDollars(b.cents), show: (b) => dollars(b.cents), axis: (at) => `$${short(at)}` },
];

const GUTTER = 44; // for the labels of the axes, in pixels

export class Plot {
  #root = byId("plot");
  #scrub = byId("scrub");
  #data = null;
  #drawn = [];
  #cursor = null; // the start of the bucket under it
  #x = () => 0;

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#root);
    this.#scrub.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#scrub.addEventListener("pointerdown", (event) => this.#point(event.offsetX));
    this.#scrub.addEventListener("pointerleave", () => this.#move(null));
    this.#scrub.addEventListener("blur", () => this.#move(null));
    this.#scrub.addEventListener("keydown", (event) => this.#key(event));
  }

  /** `{buckets, size, from, to, watermark, now}`; instants in milliseconds. */
  show(data) {
    this.#data = data;
    this.#draw();
  }

  #draw() {
    const width = Math.floor(this.#root.clientWidth);
    if (!this.#data || width === 0) return;
    const { buckets, from, to, watermark, size, now } = this.#data;
    const [first, last] = [buckets[0]?.start ?? from, buckets.at(-1)?.end ?? to];
    this.#x = (instant) => GUTTER + ((instant - first) / (last - first)) * (width - GUTTER);
    const watermarkX = watermark === null ? GUTTER : Math.max(GUTTER, Math.min(width, this.#x(watermark)));
    this.#drawn = LANES.map((lane, index) => {
      const svg = byId(`chart-${lane.id}`);
      const values = buckets.map((bucket) => ({ ...bucket, value: lane.number(bucket) }));
      const scale = scaleOf(Math.max(0, ...values.map(({ value }) => value ?? 0)), lane.whole, lane.axis);
      const clockTicks = index === LANES.length - 1 ? clockTicksOf(first, last, width) : null;
      const { kind, height } = lane;
      setAttribute(svg, "aria-label", this.#summary(lane));
      return drawLane(svg, { kind, width, gutter: GUTTER, height, values, scale, x: this.#x, clockTicks, watermarkX });
    });
    for (const unit of document.querySelectorAll(".per-bucket")) setText(unit, size === 1 ? "per minute" : `per ${size} minutes`);
    const flag = byId("watermark-flag");
    flag.hidden = watermark === null || watermarkX <= GUTTER || watermarkX >= width;
    flag.style.insetInlineStart = `${watermarkX}px`;
    flag.classList.toggle("before", watermarkX > width / 2);
    setText(flag, watermark === null ? "" : `final up to ${moment(watermark, now)}`);
    this.#drawCursor();
  }

  #summary(lane) {
    const { buckets, from, to, now } = this.#data;
    const known = buckets.filter((bucket) => lane.number(bucket) !== null);
    const range = `from ${moment(from, now)} to ${moment(to, now)} UTC`;
    const name = byId(`lane-${lane.id}`).textContent;
    if (known.length === 0) return `${name} ${range}: no data.`;
    const highest = known.reduce((best, bucket) => (lane.number(bucket) > lane.number(best) ? bucket : best));
    return `${name} ${range}: at most ${lane.show(highest)} at ${moment(highest.start, now)}, at last ${lane.show(known.at(-1))}. The table below has every minute.`;
  }

  #drawCursor() {
    const { buckets, now } = this.#data;
    const index = buckets.findIndex(({ start }) => start === this.#cursor);
    const bucket = buckets[index];
    // Without a cursor the last whole one: a running minute's numbers would look like a drop.
    const shown = bucket ?? buckets.findLast(({ end }) => end <= now) ?? buckets.at(-1);
    LANES.forEach((lane, number) => {
      setText(byId(`readout-${lane.id}`), shown ? lane.show(shown) : "–");
      const cursor = byId(`chart-${lane.id}`).querySelector(".cursor");
      const { y, bottom } = this.#drawn[number];
      if (!bucket) return cursor.replaceChildren();
      const at = this.#x((bucket.start + bucket.end) / 2);
      const value = lane.number(bucket);
      const dot = lane.kind === "line" && value !== null ? [shape("circle", { cx: at, cy: y(value), r: 4.5 })] : [];
      cursor.replaceChildren(shape("line", { x1: at, x2: at, y1: 0, y2: bottom }), ...dot);
    });
    setText(byId("plot-moment"), shown ? this.#describe(shown, bucket) : "");
    setAttribute(this.#scrub, "aria-valuemax", Math.max(0, buckets.length - 1));
    setAttribute(this.#scrub, "aria-valuenow", index < 0 ? Math.max(0, buckets.length - 1) : index);
    const text = shown ? LANES.map((lane) => `${byId(`lane-${lane.id}`).textContent} ${lane.show(shown)}`).join(", ") : "no data";
    setAttribute(this.#scrub, "aria-valuetext", shown ? `${moment(shown.start, now)}: ${text}, ${shown.final ? "final" : "may still change"}` : text);
  }

  #describe(bucket, pointed) {
    const { size, now } = this.#data;
    const time = size === 1 ? moment(bucket.start, now) : `${moment(bucket.start, now)}–${clock(bucket.end)}`;
    const state = bucket.final ? "final" : "may still change";
    return pointed ? `${time} UTC · ${state}` : `Last: ${time} UTC · ${state}`;
  }

  #point(offset) {
    const bucket = this.#data?.buckets.find(({ end }) => this.#x(end) >= offset);
    this.#move(bucket?.start ?? null);
  }

  #key(event) {
    const buckets = this.#data?.buckets ?? [];
    if (buckets.length === 0) return;
    const now = buckets.findIndex(({ start }) => start === this.#cursor);
    const from = now < 0 ? buckets.length - 1 : now;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (event.key === "Escape") this.#move(null);
    if (step === undefined) return;
    event.preventDefault();
    // The first key shows where the cursor is: at the end.
    const next = now < 0 && step === -1 ? from : from + step;
    this.#move(buckets[Math.max(0, Math.min(buckets.length - 1, next))].start);
  }

  #move(start) {
    if (this.#cursor === start || !this.#data || this.#drawn.length === 0) return;
    this.#cursor = start;
    this.#drawCursor();
  }
}

// Round clock times, as many as there is room for.
function clockTicksOf(first, last, width) {
  const room = Math.max(2, Math.floor((width - GUTTER) / 64));
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720].find((minutes) => (last - first) / (minutes * MINUTE) <= room) ?? 1440;
  const size = step * MINUTE;
  const ticks = [];
  for (let at = Math.ceil(first / size) * size; at <= last; at += size) {
    const share = (at - first) / (last - first);
    const anchor = share < 0.04 ? "start" : share > 0.96 ? "end" : "middle";
    ticks.push({ at, anchor, text: at % (1440 * MINUTE) === 0 ? day(at) : clock(at) });
  }
  return ticks;
}
