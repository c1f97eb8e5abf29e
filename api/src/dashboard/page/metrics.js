// The metrics as the service declares them, and how a value of each is read, added and shown. The page itself names none.

import { capitalised, count, short, shortTime, timeSpent } from "./format.js";
import { cents, dollars, roughDollars } from "./money.js";
import { roundCount, roundMoney, roundTime } from "./scale.js";

// `length` is on a chart's axis, `round` the end of an axis that reaches a length, and `axis` the text of a mark.
const number = (value) => value;
const UNITS = {
  count: { zero: 0, from: number, show: count, length: number, round: roundCount, axis: short, pronoun: "them" },
  milliseconds: { zero: 0, from: number, show: timeSpent, length: (time) => time / 1000, round: roundTime, axis: shortTime, pronoun: "it" },
  usd: { zero: 0n, from: cents, show: dollars, length: roughDollars, round: roundMoney, axis: (at) => `$${short(at)}`, pronoun: "it" },
};

// What several windows have together.
const TOGETHER = {
  at_end: ({ name, grows }) => (grows ? `While the ${name} grows: at the end of its last closed minute.` : `Of several ${name}s, the highest is shown.`),
  distinct: ({ name }) => `Of several ${name}s, the highest is shown: a sum would count a user again in each of them.`,
  largest: ({ name }) => `Of several ${name}s, the highest is shown.`,
  sum: ({ name }) => `Several ${name}s are added.`,
};

const DECLARED = JSON.parse(document.querySelector("meta[name=metrics]").content);
// What the same events change has the same colour.
const TONES = [...new Set(DECLARED.map(({ events }) => events.join()))];

/**
 * In the order of tables. `first`: it is shown unless the reader chose otherwise, and never null. `level`: it is of an instant.
 * `adds`: over time there is a sum of it; of others there is a highest one only. `isOf`: whether windows of a length have it.
 */
export const METRICS = DECLARED.map(({ name, unit, meaning, roll_up, events, grains, first }) => {
  const words = { meaning: `${capitalised(meaning)}.`, together: TOGETHER[roll_up], label: labelOf(name) };
  const tone = `tone-${TONES.indexOf(events.join()) % 3}`;
  const kind = { level: roll_up === "at_end", adds: roll_up === "sum", money: unit === "usd" };
  const isOf = (grain) => grains.includes(grain.name);
  return { name, first, tone, isOf, ...words, ...kind, ...UNITS[unit] };
});
export const LEVELS = METRICS.filter(({ level }) => level);

/** Those of these names, in their order. */
export const named = (names) => METRICS.filter(({ name }) => names.includes(name));

/** A row's value, or null if that is not known. */
export const valueOf = ({ name, from }, row) => (row[name] === null || row[name] === undefined ? null : from(row[name]));

/** An object with a member for each of these metrics. */
export function each(metrics, value) {
  return Object.fromEntries(metrics.map((metric) => [metric.name, value(metric)]));
}

/** A value as people read it; null is none. */
export const textOf = (metric, value) => (value === null ? "–" : metric.show(value));

/** What the highest one is called. */
export const peakOf = ({ label }) => `Peak ${label.toLowerCase()}`;

/** The metric whose highest value that is: of a level with hours and days, whose ends miss the peak, another one. */
export const peakIn = (metric, grain) => METRICS.find(({ label, isOf }) => label === peakOf(metric) && isOf(grain)) ?? metric;

// The unit, and what goes without saying, is left out: not where two would then have one label.
function labelOf(name) {
  const same = DECLARED.some((other) => other.name !== name && bare(other.name) === name);
  return capitalised(same ? `number of ${bare(name)}` : bare(name));
}

function bare(name) {
  return name.replace(/^active_|_usd$/g, "").replace(/_ms$/, " time").replaceAll("_", " ");
}

// A key of an object is the only place where a bare quote follows a brace or a comma; inside of a string quotes are escaped.
const AMOUNTS = METRICS.filter(({ money }) => money).map(({ name }) => name);
const AMOUNT = new RegExp(`([{,]\\s*"(?:${[...AMOUNTS, "value"].join("|")})"\\s*:\\s*)(-?\\d+\\.\\d+)`, "g");

/** JSON in which amounts, which are numbers with a point, become strings with the same digits. */
export function parseExactly(text) {
  return JSON.parse(text.replace(AMOUNT, '$1"$2"'));
}
