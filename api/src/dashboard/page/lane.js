// One chart of a stack: a line or bars over time, what is final told apart from what may still change.

import { setAttribute, shape } from "./dom.js";

const TOP = 14; // room for the highest label
export const AXIS = 20; // room for the clock under the lowest lane

/**
 * `values` are `{start, end, value, final, unknown}`, `value` a number or null, which is `unknown` if there is one all the same;
 * `x(instant)` is in pixels, right of the gutter for labels.
 * Returns where the cursor finds a value: `y(value)` in pixels.
 */
export function drawLane(svg, { kind, width, gutter, height, values, scale, x, clockTicks, watermarkX }) {
  const bottom = height - (clockTicks ? AXIS : 1);
  const y = (value) => bottom - (value / scale.max) * (bottom - TOP);
  setAttribute(svg, "viewBox", `0 0 ${width} ${height}`);
  setAttribute(svg, "height", height);
  const live = watermarkX < width ? [shape("rect", { class: "live-band", x: watermarkX, y: 0, width: width - watermarkX, height: bottom })] : [];
  const gaps = values.filter(isGap).map(({ start, end }) => shape("rect", { class: "unknown", x: x(start), y: TOP, width: x(end) - x(start), height: bottom - TOP }));
  const inside = watermarkX > gutter && watermarkX < width;
  const mark = inside ? [shape("line", { class: "watermark", x1: watermarkX, x2: watermarkX, y1: 0, y2: bottom })] : [];
  const grid = scale.ticks.flatMap(({ at, text }) => [
    shape("line", { class: at === 0 ? "base" : "grid", x1: gutter, x2: width, y1: y(at), y2: y(at) }),
    shape("text", { class: "tick", x: gutter - 8, y: y(at) + 4, "text-anchor": "end" }, text),
  ]);
  const content = kind === "line" ? line(values, x, y, bottom) : bars(values, x, y, bottom);
  const clocks = (clockTicks ?? []).map(({ at, text, anchor }) =>
    shape("text", { class: "tick", x: x(at), y: height - 4, "text-anchor": anchor }, text),
  );
  svg.replaceChildren(...live, ...gaps, ...grid, ...content, ...mark, ...clocks, shape("g", { class: "cursor" }));
  return { y, bottom };
}

/** A scale that ends at a round length, and its marks. */
export function scaleOf(highest, round, label) {
  const max = round(highest);
  return { max, ticks: [0, max / 2, max].map((at) => ({ at, text: label(at) })) };
}

/** Whether there is a value here that nobody knows. */
export function isGap({ value, unknown }) {
  return unknown && value === null;
}

function middle(value, x) {
  return x((value.start + value.end) / 2);
}

// Known values are joined directly over windows without a row, which have none. Over a gap they are not.
function line(values, x, y, bottom) {
  const runs = [[]];
  for (const value of values) {
    if (value.value !== null) runs.at(-1).push(value);
    else if (isGap(value)) runs.push([]);
  }
  const known = runs.filter((run) => run.length > 0);
  const shapes = known.flatMap((run) => stretch(run, x, y, bottom));
  const end = known.at(-1)?.at(-1);
  return end ? [...shapes, shape("circle", { class: "end", cx: middle(end, x), cy: y(end.value), r: 3.5 })] : [];
}

// Of values without a gap.
function stretch(run, x, y, bottom) {
  if (run.length === 1) return [shape("circle", { class: "alone", cx: middle(run[0], x), cy: y(run[0].value), r: 2 })];
  const point = (value) => `${middle(value, x).toFixed(1)},${y(value.value).toFixed(1)}`;
  const lastFinal = run.findLastIndex(({ final }) => final);
  const parts = [
    ["final", run.slice(0, lastFinal + 1)],
    ["live", run.slice(Math.max(0, lastFinal))],
  ];
  const shapes = [];
  for (const [name, part] of parts) {
    if (part.length < 2) continue;
    const path = part.map(point).join("L");
    const [left, right] = [middle(part[0], x), middle(part.at(-1), x)];
    shapes.push(shape("path", { class: `area ${name}`, d: `M${left.toFixed(1)},${bottom}L${path}L${right.toFixed(1)},${bottom}Z` }));
    shapes.push(shape("path", { class: `line ${name}`, d: `M${path}` }));
  }
  return shapes;
}

// All bars of a kind are one path: a day's chart has few elements.
function bars(values, x, y, bottom) {
  const paths = { final: "", live: "" };
  for (const { start, end, value, final } of values) {
    if (!value) continue;
    const slot = x(end) - x(start);
    const gap = slot > 4 ? Math.min(3, slot * 0.25) : slot * 0.15;
    const height = Math.max(1, bottom - y(value));
    const radius = Math.min(1.5, height, (slot - gap) / 2);
    const [left, right, top] = [x(start) + gap / 2, x(end) - gap / 2, bottom - height];
    paths[final ? "final" : "live"] +=
      `M${left.toFixed(2)} ${bottom}V${(top + radius).toFixed(2)}Q${left.toFixed(2)} ${top.toFixed(2)} ${(left + radius).toFixed(2)} ${top.toFixed(2)}` +
      `H${(right - radius).toFixed(2)}Q${right.toFixed(2)} ${top.toFixed(2)} ${right.toFixed(2)} ${(top + radius).toFixed(2)}V${bottom}Z`;
  }
  return Object.entries(paths).filter(([, d]) => d).map(([name, d]) => shape("path", { class: `bars ${name}`, d }));
}
