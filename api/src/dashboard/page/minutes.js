// The charts' text alternative: every minute of the range as a table, newest first, with the metrics that are shown.

import { byId, element } from "./dom.js";
import { MINUTE, moment } from "./format.js";
import { METRICS, named, textOf } from "./metrics.js";

const HEADS = METRICS.map(({ name, label }) => ({ name, head: element("th", { scope: "col" }, label) }));
byId("minute-state").before(...HEADS.map(({ head }) => head));

/** Fills the table while it is open; a closed one costs nothing. */
export function showMinutes(minutes, isFinal, now, shown) {
  for (const { name, head } of HEADS) head.hidden = !shown.includes(name);
  if (!byId("minutes").open) return;
  const metrics = named(shown);
  const rows = minutes.toReversed().map((minute) => {
    const final = isFinal(minute.start);
    return element(
      "tr",
      { class: final ? null : "live" },
      element("th", { scope: "row" }, element("time", { datetime: new Date(minute.start).toISOString() }, moment(minute.start, now))),
      ...metrics.map((metric) => element("td", {}, textOf(metric, minute[metric.name]))),
      element("td", { class: "state" }, final ? "final" : minute.start + MINUTE > now ? "running" : "may change"),
    );
  });
  byId("minute-rows").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: metrics.length + 2, class: "nothing" }, "No minute in this range."))]));
}
