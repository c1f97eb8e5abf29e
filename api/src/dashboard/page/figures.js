// The figures at the top: each level now and its peak, and each sum of the range with how much of it is final.

import { byId, element, setText } from "./dom.js";
import { MINUTE, moment } from "./format.js";
import { METRICS, peakOf, textOf } from "./metrics.js";
import { totals } from "./series.js";

for (const metric of METRICS) {
  const { name, label, level, tone } = metric;
  const figure = (id, label) => {
    const parts = [element("dt", {}, label), element("dd", { class: "value" }, "–"), element("dd", { class: "note" })];
    byId("figures").append(element("div", { id: `figure-${id}`, class: `figure ${tone}` }, ...parts));
  };
  figure(name, level ? `${label} now` : label);
  if (level) figure(`peak-${name}`, peakOf(metric));
}

/** `present` has the levels and a note, or is null; `minutes` are those of the range. */
export function showFigures(minutes, isFinal, present, now) {
  const all = totals(minutes);
  const final = totals(minutes.filter((minute) => isFinal(minute.start)));
  for (const metric of METRICS) {
    const { name, level, pronoun } = metric;
    if (!level) {
      show(name, metric.show(all[name]), `${metric.show(final[name])} of ${pronoun} final`);
      continue;
    }
    const [latest, peak] = [present?.[name] ?? null, all[name]];
    show(name, textOf(metric, latest), present?.note ?? "");
    // That of the running minute is more than ever before: then the peak is now.
    const isNow = latest !== null && latest > (peak?.[name] ?? -1);
    const note = peak ? `at ${moment(peak.start + MINUTE, now)}` : "no minute in this range";
    show(`peak-${name}`, textOf(metric, isNow ? latest : (peak?.[name] ?? null)), isNow ? "right now" : note);
  }
}

function show(name, value, note) {
  const figure = byId(`figure-${name}`);
  setText(figure.querySelector(".value"), value);
  figure.querySelector(".value").classList.toggle("long", value.length > 11);
  setText(figure.querySelector(".note"), note);
}
