// Which metrics are shown: one box for each, kept in the URL.

import { byId, disclose, element, setText } from "./dom.js";
import { METRICS } from "./metrics.js";
import { go } from "./place.js";

let place = null;

disclose(byId("choose"), byId("choices"));

const boxes = METRICS.map(({ name, label, meaning, tone, isOf }) => {
  const id = `show-${name}`;
  const aria = { "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-meaning` };
  const box = element("input", { id, class: tone, type: "checkbox", ...aria });
  const text = element("span", { id: `${id}-meaning`, class: "muted" }, meaning);
  const line = element("label", {}, box, element("span", { id: `${id}-label` }, label), text);
  byId("choices").append(line);
  box.addEventListener("change", choose);
  return { name, isOf, line, box };
});

/** Shows what this place says. What its windows do not have is not offered, and stays chosen. */
export function showChoice(current) {
  place = current;
  for (const { name, isOf, line, box } of boxes) {
    box.checked = place.show.includes(name);
    line.hidden = !isOf(place.grain);
  }
  setText(byId("choose-count"), `${place.shown.length} of ${boxes.filter(({ line }) => !line.hidden).length}`);
}

function choose() {
  const chosen = boxes.filter(({ box }) => box.checked);
  if (chosen.some(({ line }) => !line.hidden)) return go({ ...place, show: chosen.map(({ name }) => name) });
  showChoice(place);
  setText(byId("announcement"), "One metric at least is shown.");
}
