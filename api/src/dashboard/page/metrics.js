// The metrics as the service declares them, and how a value of each is read, added and shown. The page itself names none.

import { count, short } from "./format.js";
import { cents, dollars, roughDollars } from "./money.js";

// `length` is on a chart's axis; `whole`: between two marks of it there are whole numbers only.
const COUNT = { zero: 0, read: (number) => number, show: count, length: (number) => number, axis: short, whole: true, pronoun: "them" };
const MONEY = { zero: 0n, read: cents, show: dollars, length: roughDollars, axis: (at) => `$${short(at)}`, whole: false, pronoun: "it" };

/** In the order of tables. `level`: over time there is a highest one and no sum. */
export const METRICS = JSON.parse(document.querySelector("meta[name=metrics]").content).map(({ name, money, level }, place) => {
  return { name, money, level, ...(money ? MONEY : COUNT), label: labelOf(name), tone: `tone-${place % 3}` };
});
export const LEVELS = METRICS.filter(({ level }) => level);

/** An object with a member for each of these metrics. */
export function each(metrics, value) {
  return Object.fromEntries(metrics.map((metric) => [metric.name, value(metric)]));
}

/** A value as people read it; null is none. */
export const textOf = (metric, value) => (value === null ? "–" : metric.show(value));

/** What the highest level is called. */
export const peakOf = ({ label }) => `Peak ${label.toLowerCase()}`;

// The unit, and what goes without saying, is left out.
function labelOf(name) {
  const words = name.replace(/^active_|_usd$/g, "").replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

// A key of an object is the only place where a bare quote follows a brace or a comma; inside of a string quotes are escaped.
const AMOUNTS = METRICS.filter(({ money }) => money).map(({ name }) => name);
const AMOUNT = new RegExp(`([{,]\\s*"(?:${[...AMOUNTS, "value"].join("|")})"\\s*:\\s*)(-?\\d+\\.\\d+)`, "g");

/** JSON in which amounts, which are numbers with a point, become strings with the same digits. */
export function parseExactly(text) {
  return JSON.parse(text.replace(AMOUNT, '$1"$2"'));
}
