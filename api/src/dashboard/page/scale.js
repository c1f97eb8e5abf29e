// The length at which an axis ends: a round one, whose half, where the middle mark is, is round too.

const STEPS = [1, 2, 3, 4, 6, 8, 10];
const MINUTE = 60;
const HOUR = 3_600;
const TIMES = [2, 4, 10, 20, 30, MINUTE, 2 * MINUTE, 4 * MINUTE, 6 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, HOUR];

/** Between two marks there are whole numbers only. */
export function roundCount(count) {
  return roundUp(Math.max(count, 2), (step) => Number.isInteger(step / 2));
}

/** Of dollars. */
export function roundMoney(dollars) {
  return roundUp(Math.max(dollars, 1), () => true);
}

/** Of seconds: the marks are whole seconds, minutes or hours. */
export function roundTime(seconds) {
  return TIMES.find((time) => time >= seconds) ?? HOUR * roundCount(seconds / HOUR);
}

function roundUp(value, fits) {
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.map((step) => step * power).find((step) => step >= value && fits(step)) ?? 10 * power;
}
