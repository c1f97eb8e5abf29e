// Whether what is on the page is fresh, said in three ways: a word in the header, a banner when something is wrong, and once
// for assistive technology. Numbers that may be old look old.

import { byId, setText } from "./dom.js";
import { clockWithSeconds, count, duration } from "./format.js";

const WORDS = { connecting: "Connecting", live: "Live", lost: "Connection lost", ill: "No data", quiet: "Pipeline silent", past: "Past range" };

/**
 * `state` is one of the words above. `asOf` is when the numbers were last known to be right, on the service's clock, or null;
 * `problem` is the service's sentence.
 */
export function showConnection({ state, epoch, committedAt, asOf, now, problem }) {
  document.body.dataset.connection = state;
  byId("status").dataset.state = state;
  announce(state);
  setText(byId("status-word"), WORDS[state]);
  const fresh = state === "live" || state === "quiet" || state === "past";
  const age = committedAt === null ? "" : ` · ${duration(now - committedAt)} ago`;
  setText(byId("status-detail"), epoch === null || !fresh ? "" : `commit ${count(epoch)}${age}`);
  const banner = byId("banner");
  const text = bannerText(state, asOf, problem);
  banner.hidden = text === null;
  if (text !== null) setText(byId("banner-text"), text);
}

let announced = null; // the trouble that was last told of, if it is not over

// Only trouble and its end are worth a word that interrupts.
function announce(state) {
  const trouble = state === "lost" || state === "ill" || state === "quiet";
  if (trouble && announced !== state) setText(byId("announcement"), `${WORDS[state]}.`);
  if (state === "live" && announced) setText(byId("announcement"), "Live: numbers are fresh again.");
  if (trouble) announced = state;
  else if (state === "live") announced = null;
}

function bannerText(state, asOf, problem) {
  const old = asOf === null ? "There are no numbers to show yet." : `All numbers below are as of ${clockWithSeconds(asOf)} UTC.`;
  if (state === "lost") return `The connection is lost. ${old} Trying again…`;
  if (state === "quiet" && problem) return `${sentence(problem)} ${old}`;
  if (state === "ill") return `${problem ? sentence(problem) : "The service has no data."} ${old} Trying again…`;
  return null;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}
