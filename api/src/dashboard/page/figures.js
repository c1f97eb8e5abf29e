// The figures at the top, of the metrics that are shown: each level now and its peak, each sum of the range with how much of it is final, and
// the peak of what is neither.

import { byId, element, setText } from "./dom.js";
import { moment } from "./format.js";
import { LEVELS, METRICS, peakIn, peakOf, textOf } from "./metrics.js";
import { totals } from "./series.js";

// A metric of a level's peak has no figure of its own: it is in the level's.
const FIGURES = METRICS.filter(({ label }) => !LEVELS.some((level) => peakOf(level) === label)).map((metric) => {
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

/** `rows` are those of the range; `present` has the levels and a note, or is null. */
export function showFigures(rows, isFinal, present, now, { grain, shown }) {
  const all = totals(rows);
  const final = totals(rows.filter((row) => isFinal(row.start)));
  const unknown = rows.length ? "not known" : `no ${grain.name} in this range`;
  for (const { metric, nodes } of FIGURES) {
    const { name, level, adds, pronoun } = metric;
    nodes[0].hidden = !shown.includes(name);
    if (adds) {
      const note = all[name] === null ? `not known of each ${grain.name}` : `${metric.show(final[name])} of ${pronoun} final`;
      show(name, textOf(metric, all[name]), note);
      continue;
    }
    const peak = peakIn(metric, grain);
    const row = all[peak.name];
    const [latest, highest] = [present?.[name] ?? null, row?.[peak.name] ?? null];
    const within = row ? `${grain.within} ${grain.called(row.start, now)}` : unknown;
    if (!level) {
      show(name, textOf(metric, highest), within);
      continue;
    }
    nodes[1].hidden = nodes[0].hidden && !shown.includes(peak.name);
    show(name, textOf(metric, latest), present?.note ?? "");
    // That of the running minute is more than ever before: then the peak is now.
    const isNow = latest !== null && latest > (highest ?? -1);
    const note = row && peak === metric ? `at ${moment(row.start + grain.width, now)}` : within;
    show(`peak-${name}`, textOf(metric, isNow ? latest : highest), isNow ? "right now" : note);
  }
}

function show(name, value, note) {
  const figure = byId(`figure-${name}`);
  setText(figure.querySelector(".value"), value);
  figure.querySelector(".value").classList.toggle("long", value.length > 11);
  setText(figure.querySelector(".note"), note);
}
