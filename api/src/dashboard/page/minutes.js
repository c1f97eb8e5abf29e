// The charts' text alternative: every minute of the range as a table, newest first.

import { byId, element } from "./dom.js";
import { MINUTE, count, moment } from "./format.js";
import { dollars } from "./money.js";

/** Fills the table while it is open; a closed one costs nothing. */
export function showMinutes(minutes, isFinal, now) {
  if (!byId("minutes").open) return;
  const rows = minutes.toReversed().map((minute) => {
    const final = isFinal(minute.start);
    return element(
      "tr",
      { class: final ? null : "live" },
      element("th", { scope: "row" }, element("time", { datetime: new Date(minute.start).toISOString() }, moment(minute.start, now))),
      element("td", {}, minute.viewers === null ? "–" : count(minute.viewers)),
      element("td", {}, count(minute.chats)),
      element("td", {}, dollars(minute.cents)),
      element("td", { class: "state" }, final ? "final" : minute.start + MINUTE > now ? "running" : "may change"),
    );
  });
  byId("minute-rows").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: 5, class: "nothing" }, "No minute in this range."))]));
}
