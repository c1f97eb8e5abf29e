// The figures at the top, of the metrics that are shown: each level now and its peak, each sum of the range with how much of it is final, and
// the peak of what is neither.

import { byId, element, setText } from "./dom.js";
import { MINUTE, moment } from "./format.js";
import { METRICS, peakOf, textOf } from "./metrics.js";
import { totals } from "./series.js";

const FIGURES = METRICS.map((metric) => {
  const { name, label, level, adds, tone } = metric;
  const figure = (id, label) => {
    const parts = [element("dt", {}, label), element("dd", { class: "value" }, "–"), element("dd", { class: "note" })];
    const node = element("div", { id: `figure-${id}`, class: `figure ${tone}` }, ...parts);
    byId("figures").append(node);
    return node;
  };
  if (level) return { metric, nodes: [figure(name, `${label} now`), figure(`peak-${name}`, peakOf(metric))] };
  return { metric, nodes: [figure(name, adds ? label : peakOf(metric))] };
});

/** `present` has the levels and a note, or is null; `minutes` are those of the range, `shown` the names of metrics. */
export function showFigures(minutes, isFinal, present, now, shown) {
  const all = totals(minutes);
  const final = totals(minutes.filter((minute) => isFinal(minute.start)));
  const unknown = minutes.length ? "not known" : "no minute in this range";
  for (const { metric, nodes } of FIGURES) {
    const { name, level, adds, pronoun } = metric;
    for (const node of nodes) node.hidden = !shown.includes(name);
    if (adds) {
      show(name, textOf(metric, all[name]), all[name] === null ? "not known of each minute" : `${metric.show(final[name])} of ${pronoun} final`);
      continue;
    }
    const [latest, peak] = [present?.[name] ?? null, all[name]];
    if (!level) {
      show(name, textOf(metric, peak?.[name] ?? null), peak ? `in the minute of ${moment(peak.start, now)}` : unknown);
      continue;
    }
    show(name, textOf(metric, latest), present?.note ?? "");
    // That of the running minute is more than ever before: then the peak is now.
    const isNow = latest !== null && latest > (peak?.[name] ?? -1);
    const note = peak ? `at ${moment(peak.start + MINUTE, now)}` : unknown;
    show(`peak-${name}`, textOf(metric, isNow ? latest : (peak?.[name] ?? null)), isNow ? "right now" : note);
  }
}

function show(name, value, note) {
  const figure = byId(`figure-${name}`);
  setText(figure.querySelector(".value"), value);
  figure.querySelector(".value").classList.toggle("long", value.length > 11);
  setText(figure.querySelector(".note"), note);
}
