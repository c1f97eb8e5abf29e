// The charts over one axis of time, one for each metric that is shown, with one cursor that pointer and arrow keys move.

import { byId, disclose, element, setAttribute, setText, shape } from "./dom.js";
import { MINUTE, capitalised, clock, day, moment } from "./format.js";
import { AXIS, drawLane, isGap, scaleOf } from "./lane.js";
import { METRICS, textOf } from "./metrics.js";

const LANES = METRICS.map((metric) => {
  const { name, label, level, tone, round, axis } = metric;
  const [unit, readout, svg] = [element("span", { class: "muted" }), element("output", {}, "–"), shape("svg", { role: "img" })];
  // The name is a button that opens what it means below.
  const meaning = element("p", { id: `meaning-${name}`, class: "meaning" });
  const button = element("button", { id: `explain-${name}`, class: "explain", type: "button", "aria-controls": meaning.id }, label);
  disclose(button, meaning);
  const head = element("div", { class: "lane-head" }, button, meaning, unit, readout);
  const root = element("div", { id: `lane-${name}`, class: `lane ${tone}` }, head, svg);
  byId("watermark-flag").before(root);
  const number = (bucket) => (bucket[name] === null ? null : metric.length(bucket[name]));
  const values = (buckets) => buckets.map((bucket) => ({ ...bucket, value: number(bucket), unknown: bucket.unknown.has(name) }));
  const [kind, height] = level ? ["line", 148] : ["bars", 92];
  return { name, label, metric, root, meaning, unit, round, axis, readout, svg, kind, height, number, values, show: (bucket) => textOf(metric, bucket[name]) };
});

// What a value is of.
function unitOf({ level, adds }, size, grain) {
  if (level) return `at the ${grain.name}’s end`;
  if (size === 1) return `per ${grain.name}`;
  return adds ? `per ${size} ${grain.name}s` : `highest ${grain.name} of ${size}`;
}

const GUTTER = 44; // for the labels of the axes, in pixels

export class Plot {
  #root = byId("plot");
  #scrub = byId("scrub");
  #data = null;
  #lanes = []; // those that are shown
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

  /** `{buckets, size, grain, from, to, watermark, now, shown}`; instants in milliseconds, `shown` names of metrics. */
  show(data) {
    this.#data = data;
    this.#lanes = LANES.filter(({ name }) => data.shown.includes(name));
    for (const lane of LANES) lane.root.hidden = !this.#lanes.includes(lane);
    for (const { metric, meaning, unit } of this.#lanes) {
      setText(meaning, `${metric.meaning} ${metric.together(data.grain)}`);
      setText(unit, unitOf(metric, data.size, data.grain));
    }
    setAttribute(this.#scrub, "aria-label", `${capitalised(data.grain.name)} of the charts`);
    this.#draw();
  }

  #draw() {
    const width = Math.floor(this.#root.clientWidth);
    if (!this.#data || width === 0) return;
    const { buckets, grain, from, to, watermark, now } = this.#data;
    const [first, last] = [buckets[0]?.start ?? from, buckets.at(-1)?.end ?? to];
    this.#x = (instant) => GUTTER + ((instant - first) / (last - first)) * (width - GUTTER);
    const watermarkX = watermark === null ? GUTTER : Math.max(GUTTER, Math.min(width, this.#x(watermark)));
    let hasGaps = false;
    this.#drawn = this.#lanes.map((lane, index) => {
      const values = lane.values(buckets);
      const scale = scaleOf(Math.max(0, ...values.map(({ value }) => value ?? 0)), lane.round, lane.axis);
      const clockTicks = index === this.#lanes.length - 1 ? clockTicksOf(first, last, width) : null;
      const { kind, svg } = lane;
      const height = lane.height + (clockTicks ? AXIS : 0);
      hasGaps ||= values.some(isGap);
      setAttribute(svg, "aria-label", this.#summary(lane));
      return drawLane(svg, { kind, width, gutter: GUTTER, height, values, scale, x: this.#x, clockTicks, watermarkX });
    });
    byId("legend-unknown").hidden = !hasGaps;
    const flag = byId("watermark-flag");
    // In the highest chart, below its head.
    const highest = this.#lanes[0].svg.getBoundingClientRect().top - this.#root.getBoundingClientRect().top;
    flag.style.insetBlockStart = `${highest}px`;
    flag.hidden = watermark === null || watermarkX <= GUTTER || watermarkX >= width;
    flag.style.insetInlineStart = `${watermarkX}px`;
    flag.classList.toggle("before", watermarkX > width / 2);
    setText(flag, watermark === null ? "" : `${grain.grows ? "minutes" : "final"} up to ${moment(watermark, now)}`);
    this.#drawCursor();
  }

  #summary(lane) {
    const { buckets, grain, from, to, now } = this.#data;
    const known = buckets.filter((bucket) => lane.number(bucket) !== null);
    const range = `from ${moment(from, now)} to ${moment(to, now)} UTC`;
    if (known.length === 0) return `${lane.label} ${range}: no data.`;
    const highest = known.reduce((best, bucket) => (lane.number(bucket) > lane.number(best) ? bucket : best));
    return `${lane.label} ${range}: at most ${lane.show(highest)} (${grain.called(highest.start, now)}), at last ${lane.show(known.at(-1))}. The table below has every ${grain.name}.`;
  }

  #drawCursor() {
    const { buckets, grain, now } = this.#data;
    const index = buckets.findIndex(({ start }) => start === this.#cursor);
    const bucket = buckets[index];
    // Without a cursor the last whole one: numbers of a running minute, or of an hour that grows, would look like a drop.
    const shown = bucket ?? buckets.findLast(({ end, final }) => (grain.grows ? final : end <= now)) ?? buckets.at(-1);
    this.#lanes.forEach((lane, number) => {
      setText(lane.readout, shown ? lane.show(shown) : "–");
      const cursor = lane.svg.querySelector(".cursor");
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
    const text = shown ? this.#lanes.map((lane) => `${lane.label} ${lane.show(shown)}`).join(", ") : "no data";
    setAttribute(this.#scrub, "aria-valuetext", shown ? `${grain.called(shown.start, now)}: ${text}, ${this.#stateOf(shown)}` : text);
  }

  #describe(bucket, pointed) {
    const { size, grain, now } = this.#data;
    const name = grain.called(bucket.start, now);
    const time = size === 1 ? name : `${name}–${clock(bucket.end)}`;
    return `${pointed ? "" : "Last: "}${time} UTC · ${this.#stateOf(bucket)}`;
  }

  #stateOf(bucket) {
    if (bucket.final) return "final";
    return this.#data.grain.grows ? "still growing" : "may still change";
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
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 4_320, 7_200, 14_400];
  const step = steps.find((minutes) => (last - first) / (minutes * MINUTE) <= room) ?? 21_600;
  const size = step * MINUTE;
  const ticks = [];
  for (let at = Math.ceil(first / size) * size; at <= last; at += size) {
    const share = (at - first) / (last - first);
    const anchor = share < 0.04 ? "start" : share > 0.96 ? "end" : "middle";
    ticks.push({ at, anchor, text: at % (1440 * MINUTE) === 0 ? day(at) : clock(at) });
  }
  return ticks;
}
