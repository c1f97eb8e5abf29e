// How long the windows are. A row of an hour or a day is made of closed minutes only: it grows by a minute at a time, and is final in the end.

import { MINUTE, day, moment } from "./format.js";

/**
 * From short to long. `most`: minutes of the longest range that is shown by these windows. `sizes`: how many of them a bar can stand for. Users
 * of several hours do not follow from those of each, so a bar is one hour or one day. `called`: a window's name; `within` stands before it.
 */
const GRAINS = [
  { name: "minute", most: 1_440, width: MINUTE, grows: false, sizes: [1, 2, 5, 15], called: moment, within: "in the minute of" },
  { name: "hour", most: 10_080, width: 60 * MINUTE, grows: true, sizes: [1], called: moment, within: "in the hour of" },
  { name: "day", most: 43_200, width: 1_440 * MINUTE, grows: true, sizes: [1], called: day, within: "on" },
];

/** The windows by which a range of this many minutes is shown; none if it is too long. */
export const grainOf = (minutes) => GRAINS.find(({ most }) => minutes <= most);
