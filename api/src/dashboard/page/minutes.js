// The charts' text alternative: every minute of the range as a table, newest first.

import { byId, element } from "./dom.js";
import { MINUTE, moment } from "./format.js";
import { METRICS, textOf } from "./metrics.js";

byId("minute-state").before(...METRICS.map(({ label }) => element("th", { scope: "col" }, label)));

/** Fills the table while it is open; a closed one costs nothing. */
export function showMinutes(minutes, isFinal, now) {
  if (!byId("minutes").open) return;
  const rows = minutes.toReversed().map((minute) => {
    const final = isFinal(minute.start);
    return element(
      "tr",
      { class: final ? null : "live" },
      element("th", { scope: "row" }, element("time", { datetime: new Date(minute.start).toISOString() }, moment(minute.start, now))),
      ...METRICS.map((metric) => element("td", {}, textOf(metric, minute[metric.name]))),
      element("td", { class: "state" }, final ? "final" : minute.start + MINUTE > now ? "running" : "may change"),
    );
  });
  byId("minute-rows").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: METRICS.length + 2, class: "nothing" }, "No minute in this range."))]));
}
