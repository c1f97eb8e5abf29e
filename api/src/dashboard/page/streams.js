// The list of top streams. A stream keeps its element while it stays in the list, so focus and pointer do too.

import { byId, element, setAttribute, setText } from "./dom.js";
import { count, visible } from "./format.js";
import { cents, dollars, roughDollars } from "./money.js";
import { ORDERS, href } from "./place.js";

const NAMES = { donations_usd: "Donations", chat_messages: "Chat", active_viewers: "Peak viewers" };
const entries = new Map(); // by stream id

/** `rows` as the API has them, or null while they are not known; `note` says why there are none, or of when they are. */
export function showStreams(rows, place, note) {
  for (const order of ORDERS) {
    const link = byId(`by-${order}`);
    link.href = href({ ...place, by: order });
    setAttribute(link, "aria-current", order === place.by && "true");
  }
  setText(byId("top-value"), NAMES[place.by]);
  setText(byId("top-note"), note);
  const all = byId("all-streams");
  all.href = href({ ...place, stream: null });
  all.hidden = !place.stream;
  byId("top-empty").hidden = rows === null || rows.length > 0;
  setText(byId("top-empty"), place.to ? "The list is known for ranges up to now only." : "No stream was heard of in this range.");
  byId("top").classList.toggle("loading", rows === null);
  if (rows === null) return;
  const amounts = rows.map((row) => amountOf(row.value, place.by));
  const highest = Math.max(0, ...amounts.map(({ length }) => length));
  const wanted = rows.map((row, index) => {
    const entry = entryOf(row.stream_id);
    entry.link.href = href({ ...place, stream: row.stream_id });
    setAttribute(entry.link, "aria-current", row.stream_id === place.stream && "page");
    setText(entry.value, amounts[index].text);
    entry.bar.style.inlineSize = highest > 0 ? `${(100 * amounts[index].length) / highest}%` : "0";
    return entry.row;
  });
  putInOrder(byId("top-rows"), wanted);
  const listed = new Set(rows.map((row) => row.stream_id));
  for (const id of entries.keys()) if (!listed.has(id)) entries.delete(id);
}

function amountOf(value, by) {
  if (by !== "donations_usd") return { text: count(value), length: value };
  return { text: dollars(cents(value)), length: roughDollars(cents(value)) };
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
