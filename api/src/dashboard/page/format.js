// Numbers, instants and names as people read them. Instants are milliseconds since 1970, shown in UTC like the data's windows.

export const MINUTE = 60_000;

const WHOLE = new Intl.NumberFormat("en-US");
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const CLOCK_WITH_SECONDS = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });

/** 1,234. */
export const count = (number) => WHOLE.format(number);
/** 1.2K, for axes. */
export const short = (number) => SHORT.format(number);
/** 12:34. */
export const clock = (instant) => CLOCK.format(instant);
/** 12:34:56. */
export const clockWithSeconds = (instant) => CLOCK_WITH_SECONDS.format(instant);
/** 25 Nov. */
export const day = (instant) => DAY.format(instant);

/** "12:34", with the day if that is not the day of `now`. */
export function moment(instant, now) {
  return day(instant) === day(now) ? clock(instant) : `${day(instant)}, ${clock(instant)}`;
}

const UNITS = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];

/** How long something takes, in at most two units: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(milliseconds, units = UNITS) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const first = units.findIndex(([, size]) => whole >= size);
  const [large, small] = [units[first], units[first + 1]];
  const rest = Math.floor((whole % large[1]) / small[1]);
  const start = `${Math.floor(whole / large[1])} ${large[0]}`;
  return rest ? `${start} ${rest} ${small[0]}` : start;
}

/** Time that people spent, which is counted in hours at most: "0 s", "3 min 20 s", "3 h 12 min", "1,234 h". */
export function timeSpent(milliseconds) {
  const hours = milliseconds / 3_600_000;
  if (hours >= 100) return `${count(Math.round(hours))} h`;
  return milliseconds === 0 ? "0 s" : duration(milliseconds, UNITS.slice(1));
}

/** The same for axes, in one unit: "0", "30 min", "1.2K h". */
export function shortTime(seconds) {
  const [unit, size] = UNITS.slice(1).find(([, size]) => seconds >= size) ?? UNITS.at(-1);
  return seconds === 0 ? "0" : `${short(seconds / size)} ${unit}`;
}

/** Minutes as a range is called: "15 minutes", "6 hours", "7 days". */
export function span(minutes) {
  if (minutes === 60) return "hour";
  if (minutes > 1_440 && minutes % 1_440 === 0) return `${minutes / 1_440} days`;
  if (minutes % 60 === 0) return `${minutes / 60} hours`;
  return minutes === 1 ? "minute" : `${minutes} minutes`;
}

/** "hour" as a title begins: "Hour". */
export const capitalised = (words) => words[0].toUpperCase() + words.slice(1);

// What has no shape of its own or changes the order of its neighbours: controls, marks of direction, joiners outside of emoji.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** A stream's name with all that is in it to be seen. It is text, never markup. */
export function visible(name) {
  const shown = name.replace(UNSEEN, (sign) => `⟨${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  return shown.replace(/^\s+|\s+$/g, (blanks) => "␠".repeat(blanks.length));
}
