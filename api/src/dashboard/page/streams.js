// The list of top streams. A stream keeps its element while it stays in the list, so focus and pointer do too.

import { byId, element, setAttribute, setText } from "./dom.js";
import { visible } from "./format.js";
import { peakIn, peakOf } from "./metrics.js";
import { ORDERS, href } from "./place.js";

const entries = new Map(); // by stream id

byId("orders").append(...ORDERS.map(({ name, label }) => element("a", { id: `by-${name}`, href: "./", "data-place": "" }, label)));

/** `rows` as the API has them, or null while they are not known; `note` says why there are none, or of when they are. */
export function showStreams(rows, place, note) {
  for (const order of ORDERS) {
    const { name } = order;
    const link = byId(`by-${name}`);
    link.href = href({ ...place, by: name });
    link.hidden = name !== place.by && !place.shown.includes(name) && !place.shown.includes(peakIn(order, place.grain).name);
    setAttribute(link, "aria-current", name === place.by && "true");
  }
  const metric = ORDERS.find(({ name }) => name === place.by);
  setText(byId("top-value"), metric.adds ? metric.label : peakOf(metric));
  setText(byId("top-note"), note);
  const all = byId("all-streams");
  all.href = href({ ...place, stream: null });
  all.hidden = !place.stream;
  byId("top-empty").hidden = rows === null || rows.length > 0;
  setText(byId("top-empty"), place.to ? "The list is known for ranges up to now only." : "No stream was heard of in this range.");
  byId("top").classList.toggle("loading", rows === null);
  if (rows === null) return;
  const values = rows.map((row) => metric.from(row.value));
  const lengths = values.map(metric.length);
  const highest = Math.max(0, ...lengths);
  const wanted = rows.map((row, index) => {
    const entry = entryOf(row.stream_id);
    entry.link.href = href({ ...place, stream: row.stream_id });
    setAttribute(entry.link, "aria-current", row.stream_id === place.stream && "page");
    setText(entry.value, metric.show(values[index]));
    entry.bar.style.inlineSize = highest > 0 ? `${(100 * lengths[index]) / highest}%` : "0";
    return entry.row;
  });
  putInOrder(byId("top-rows"), wanted);
  const listed = new Set(rows.map((row) => row.stream_id));
  for (const id of entries.keys()) if (!listed.has(id)) entries.delete(id);
}

function entryOf(id) {
  const known = entries.get(id);
  if (known) return known;
  const name = visible(id);
  const link = element("a", { "data-place": "", title: name.length > 24 ? name : null }, element("bdi", {}, name));
  const bar = element("span", { class: "bar" });
  const value = element("td", { class: "value" });
  const row = element("tr", {}, element("th", { scope: "row" }, link, element("span", { class: "track", "aria-hidden": "true" }, bar)), value);
  const entry = { row, link, bar, value };
  entries.set(id, entry);
  return entry;
}

// Elements that stand right are not touched; one that is moved would lose the focus, so it is given back.
function putInOrder(parent, wanted) {
  const focused = document.activeElement;
  wanted.forEach((row, index) => {
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] ?? null);
  });
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}
