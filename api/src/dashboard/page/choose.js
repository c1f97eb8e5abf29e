// Which metrics are shown: one box for each, kept in the URL.

import { byId, disclose, element, setText } from "./dom.js";
import { METRICS } from "./metrics.js";
import { go } from "./place.js";

let place = null;

disclose(byId("choose"), byId("choices"));

const boxes = METRICS.map(({ name, label, meaning, tone }) => {
  const id = `show-${name}`;
  const aria = { "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-meaning` };
  const box = element("input", { id, class: tone, type: "checkbox", ...aria });
  const text = element("span", { id: `${id}-meaning`, class: "muted" }, meaning);
  byId("choices").append(element("label", {}, box, element("span", { id: `${id}-label` }, label), text));
  box.addEventListener("change", choose);
  return { name, box };
});

/** Shows what this place says. */
export function showChoice(current) {
  place = current;
  for (const { name, box } of boxes) box.checked = place.show.includes(name);
  setText(byId("choose-count"), `${place.show.length} of ${METRICS.length}`);
}

function choose() {
  const show = boxes.filter(({ box }) => box.checked).map(({ name }) => name);
  if (show.length) return go({ ...place, show });
  showChoice(place);
  setText(byId("announcement"), "One metric at least is shown.");
}
