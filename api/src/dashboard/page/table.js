// The charts' text alternative: every row of the range in a table, newest first, with the metrics that are shown.

import { byId, element, setAttribute, setText } from "./dom.js";
import { capitalised } from "./format.js";
import { METRICS, named, textOf } from "./metrics.js";

const HEADS = METRICS.map(({ name, label }) => ({ name, head: element("th", { scope: "col" }, label) }));
byId("table-state").before(...HEADS.map(({ head }) => head));

/** Fills the table while it is open; a closed one costs nothing. */
export function showTable(rows, isFinal, now, { grain, shown }) {
  const title = capitalised(grain.name);
  setText(byId("table-title"), `The ${grain.name}s as a table`);
  setAttribute(byId("table-region"), "aria-label", `${title}s`);
  setText(byId("table-window"), `${title} (UTC)`);
  for (const { name, head } of HEADS) head.hidden = !shown.includes(name);
  if (!byId("table").open) return;
  const metrics = named(shown);
  const open = ({ start }) => (grain.grows ? "growing" : start + grain.width > now ? "running" : "may change");
  const lines = rows.toReversed().map((row) => {
    const final = isFinal(row.start);
    return element(
      "tr",
      { class: final ? null : "live" },
      element("th", { scope: "row" }, element("time", { datetime: new Date(row.start).toISOString() }, grain.called(row.start, now))),
      ...metrics.map((metric) => element("td", {}, textOf(metric, row[metric.name]))),
      element("td", { class: "state" }, final ? "final" : open(row)),
    );
  });
  const none = element("tr", {}, element("td", { colspan: metrics.length + 2, class: "nothing" }, `No ${grain.name} in this range.`));
  byId("table-rows").replaceChildren(...(lines.length ? lines : [none]));
}
