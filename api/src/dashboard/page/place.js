// Where the reader is: stream, time range, order of the list and the metrics that are shown, all in the URL, so that a link, a reload and
// the back button work.

import { MINUTE } from "./format.js";
import { grainOf } from "./grains.js";
import { METRICS, named } from "./metrics.js";

export const RANGES = [15, 60, 360, 1_440, 10_080, 43_200];
// Only hours and days have a metric of a level's peak. There the level orders the list by it.
export const ORDERS = METRICS.filter(({ isOf }) => isOf(grainOf(1))).toReversed();
const FIRST = METRICS.filter(({ first }) => first).map(({ name }) => name);
const DEFAULTS = { minutes: 60, by: FIRST.at(-1), show: FIRST };

/**
 * The place that a URL's query says; what cannot be used counts as absent.
 * `stream`: its id or null for all. `grain`: the windows of the range. `to`: its exclusive end, or null for now. `show`: names of the
 * metrics that are chosen. `shown`: those of them that the windows have, one at least.
 */
export function read(search = location.search) {
  const query = new URLSearchParams(search);
  const asked = Number(query.get("minutes") ?? DEFAULTS.minutes);
  const minutes = isRange(asked) ? asked : DEFAULTS.minutes;
  const grain = grainOf(minutes);
  const to = Math.floor(Date.parse(query.get("to") ?? "") / grain.width) * grain.width;
  const isShown = ({ isOf }) => isOf(grain);
  const names = query.getAll("show");
  const chosen = named(names).some(isShown) ? named(names) : named([...names, ...DEFAULTS.show]);
  return {
    stream: query.get("stream") || null,
    minutes,
    grain,
    to: Number.isFinite(to) && to > 0 && to < 8.6e15 ? to : null,
    by: ORDERS.some(({ name }) => name === query.get("by")) ? query.get("by") : DEFAULTS.by,
    show: chosen.map(({ name }) => name),
    shown: chosen.filter(isShown).map(({ name }) => name),
  };
}

// Whole windows, one at least.
function isRange(minutes) {
  return minutes >= 1 && (minutes * MINUTE) % grainOf(minutes)?.width === 0;
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
