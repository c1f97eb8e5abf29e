// Where the reader is: stream, time range, order of the list and the metrics that are shown, all in the URL, so that a link, a reload and
// the back button work.

import { MINUTE } from "./format.js";
import { METRICS, named } from "./metrics.js";

export const RANGES = [15, 60, 360, 1440];
export const ORDERS = METRICS.toReversed();
const FIRST = METRICS.filter(({ first }) => first).map(({ name }) => name);
const DEFAULTS = { minutes: 60, by: FIRST.at(-1), show: FIRST };

/**
 * The place that a URL's query says; what cannot be used counts as absent.
 * `stream`: its id or null for all. `to`: the range's exclusive end, or null for now. `show`: names of metrics, one at least.
 */
export function read(search = location.search) {
  const query = new URLSearchParams(search);
  const minutes = Number(query.get("minutes") ?? DEFAULTS.minutes);
  const show = named(query.getAll("show")).map(({ name }) => name);
  const to = Math.floor(Date.parse(query.get("to") ?? "") / MINUTE) * MINUTE;
  return {
    stream: query.get("stream") || null,
    minutes: Number.isInteger(minutes) && minutes >= 1 && minutes <= 1440 ? minutes : DEFAULTS.minutes,
    to: Number.isFinite(to) && to > 0 && to < 8.6e15 ? to : null,
    by: ORDERS.some(({ name }) => name === query.get("by")) ? query.get("by") : DEFAULTS.by,
    show: show.length ? show : DEFAULTS.show,
  };
}

/** The address of a place; what is as it always is stays out of it. */
export function href(place) {
  const query = new URLSearchParams();
  if (place.stream) query.set("stream", place.stream);
  if (place.minutes !== DEFAULTS.minutes) query.set("minutes", place.minutes);
  if (place.to) query.set("to", new Date(place.to).toISOString().replace(".000Z", "Z"));
  if (place.by !== DEFAULTS.by) query.set("by", place.by);
  if (place.show.join() !== DEFAULTS.show.join()) for (const name of place.show) query.append("show", name);
  const text = query.toString();
  return text ? `?${text}` : "./";
}

/** Goes to a place, as a link does. */
export function go(place) {
  history.pushState(null, "", href(place));
  announce();
}

/** Calls back whenever the place has changed: by `go`, by a link of this page, by back and forward. */
export function onChange(call) {
  listener = call;
  addEventListener("popstate", announce);
  document.addEventListener("click", follow);
}

let listener = () => {};

function announce() {
  listener(read());
}

// Links that stay on the page change it in place; with a modifier or another button they stay the browser's own.
function follow(event) {
  const link = event.target.closest?.("a[data-place]");
  const own = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !own || event.defaultPrevented) return;
  event.preventDefault();
  if (link.href !== location.href) history.pushState(null, "", link.href);
  announce();
}
