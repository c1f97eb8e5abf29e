// Money is whole cents in a BigInt: no amount and no sum ever passes through a float.

/** Cents of the API's text of an amount: digits, a point, two digits. */
export function cents(text) {
  const match = /^(-?)(\d+)\.(\d\d)$/.exec(text);
  if (!match) throw new Error(`not an amount: ${text}`);
  const amount = BigInt(match[2] + match[3]);
  return match[1] ? -amount : amount;
}

/** "$1,234.50". */
export function dollars(amount) {
  const size = amount < 0n ? -amount : amount;
  const whole = (size / 100n).toLocaleString("en-US");
  return `${amount < 0n ? "−" : ""}$${whole}.${String(size % 100n).padStart(2, "0")}`;
}

/** A length on a chart's axis, and nothing else. */
export function roughDollars(amount) {
  return Number(amount) / 100;
}
