// The four figures at the top: viewers now, their peak, chat and donations of the range, with how much of it is final.

import { byId, setText } from "./dom.js";
import { MINUTE, count, moment } from "./format.js";
import { dollars } from "./money.js";
import { totals } from "./series.js";

/** `present` is `{viewers, note}` or null; `minutes` are those of the range. */
export function showFigures(minutes, isFinal, present, now) {
  const all = totals(minutes);
  const final = totals(minutes.filter((minute) => isFinal(minute.start)));
  show("viewers", present ? count(present.viewers) : "–", present?.note ?? "");
  const peak = all.peak && { viewers: all.peak.viewers, note: `at ${moment(all.peak.start + MINUTE, now)}` };
  // Those of the running minute are more than ever before: then the peak is now.
  const highest = present && present.viewers > (peak?.viewers ?? -1) ? { viewers: present.viewers, note: "right now" } : peak;
  show("peak", highest ? count(highest.viewers) : "–", highest?.note ?? "no minute in this range");
  show("chats", count(all.chats), `${count(final.chats)} of them final`);
  show("donations", dollars(all.cents), `${dollars(final.cents)} of it final`);
}

function show(name, value, note) {
  const figure = byId(`figure-${name}`);
  setText(figure.querySelector(".value"), value);
  figure.querySelector(".value").classList.toggle("long", value.length > 11);
  setText(figure.querySelector(".note"), note);
}
