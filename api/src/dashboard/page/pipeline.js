// The pipeline's health: how fresh the numbers are, how far time has come, what holds it, what waits, and what was rejected.

import { byId, element, setAttribute, setText } from "./dom.js";
import { clockWithSeconds, count, day, duration } from "./format.js";

// The pipeline commits at least when a minute closes; without traffic that is its only sign of life.
const QUIET_AFTER = 150_000;
const RATE_OVER = 15_000;
const BYTES = new Intl.NumberFormat("en-US", { notation: "compact", style: "unit", unit: "byte", unitDisplay: "narrow", maximumFractionDigits: 1 });

const STATES = {
  backlogged: "It has records that are still to be read.",
  at_end: "It is read to its end: its newest event tells the time.",
  idle: "It has been silent, so the clock takes its place.",
  not_counting: "It has not yielded a valid event yet.",
};

const SHORT_STATES = { backlogged: "backlog", at_end: "at its end", idle: "idle", not_counting: "no event yet" };

const REASONS = {
  empty: "no content",
  invalid_utf8: "not UTF-8",
  invalid_json: "not JSON",
  not_object: "JSON, but no object",
  duplicate_field: "a field twice",
  missing_field: "a required field is missing",
  wrong_type: "a field of the wrong type",
  bad_id: "an id too long, empty or with U+0000",
  bad_ts: "a time that cannot be read",
  bad_amount: "an amount that cannot be read or is out of bounds",
  future: "too far ahead of its record's time",
  late: "later than the pipeline waits",
  closed: "its minute was final already",
};

/** Whether the pipeline has been silent for longer than it should be. */
export function isQuiet(committedAt, now) {
  return committedAt !== null && now - committedAt > QUIET_AFTER;
}

/** `health` is the body of `/health` or null; `now` is the service's clock. */
export function showPipeline(health, rate, now) {
  const committedAt = health?.committed_at ? Date.parse(health.committed_at) : null;
  const watermark = health?.watermark ? Date.parse(health.watermark) : null;
  showFreshness(health, committedAt, now);
  if (watermark === null) vital("watermark", "–", health ? "No minute is final yet." : "", null);
  else vital("watermark", `${day(watermark) === day(now) ? "" : `${day(watermark)}, `}${clockWithSeconds(watermark)}`, `${duration(now - watermark)} behind the clock. Minutes that ended before are final.`, null);
  showHolder(health?.holder ?? null, health);
  showBacklog(health);
  vital("rate", rate ? rate.text : "–", rate ? rate.note : "Measured while this page is open.", null);
}

function showFreshness(health, committedAt, now) {
  if (!health) return vital("freshness", "–", "", null);
  if (committedAt === null) return vital("freshness", "–", health.detail ?? "The pipeline has not committed yet.", "warn");
  const quiet = isQuiet(committedAt, now);
  const said = health.error ?? health.trouble ?? (quiet ? "the pipeline is silent, so it may be stopped" : null);
  vital("freshness", duration(now - committedAt), `since commit ${count(health.epoch)}${said ? `: ${said}` : ""}`, said ? "warn" : "good");
}

function showHolder(holder, health) {
  if (!holder) return vital("holder", "Nothing", health ? "No partition counts yet." : "", null);
  const behind = holder.behind_seconds === null ? "It has no valid event yet, so nothing becomes final." : STATES[holder.state] ?? holder.state;
  const warn = holder.state === "backlogged";
  vital("holder", `Partition ${holder.partition}`, `${behind}${holder.behind_seconds === null ? "" : ` ${duration(holder.behind_seconds * 1000)} behind the clock.`}`, warn ? "warn" : null);
}

function showBacklog(health) {
  const standing = health && standingOf(health);
  if (!standing || health.epoch === null) return vital("backlog", "–", "", null);
  const { lag, inRecords } = standing;
  if (lag === 0) return vital("backlog", "None", "Everything that was sent is in the numbers.", null);
  vital("backlog", inRecords ? count(lag) : BYTES.format(lag), `${inRecords ? "records are" : "of the log is"} still to be read`, null);
}

/** Of all partitions: what has been read and what has not, in records, or in bytes of a file log. */
function standingOf(health) {
  const sum = (of) => health.partitions.reduce((total, partition) => total + of(partition), 0);
  return {
    read: sum((partition) => partition.next_offset),
    lag: sum((partition) => Math.max(0, partition.end_offset - partition.next_offset)),
    inRecords: health.lag_records !== null,
  };
}

function vital(name, value, note, tone) {
  const place = byId(`vital-${name}`);
  setText(place.querySelector(".value"), value);
  setText(place.querySelector(".note"), note);
  setAttribute(place, "data-tone", tone);
}

/** Where the pipeline stands in each partition, the one that holds the watermark marked. */
export function showPartitions(health, now) {
  const holder = health?.holder;
  const lines = (health?.partitions ?? []).map((partition) => {
    const lag = Math.max(0, partition.end_offset - partition.next_offset);
    const holds = holder && holder.partition === partition.partition && holder.topic === partition.topic;
    const behind = partition.watermark === null ? "–" : duration(now - Date.parse(partition.watermark));
    return element(
      "tr",
      { class: holds ? "holds" : null },
      element("th", { scope: "row" }, `${partition.partition}`, holds ? element("span", { class: "tag" }, "holds the watermark") : ""),
      element("td", {}, SHORT_STATES[partition.state] ?? partition.state),
      element("td", {}, behind),
      element("td", {}, partition.lag_records === null ? BYTES.format(lag) : count(lag)),
    );
  });
  byId("partition-rows").replaceChildren(...lines);
  byId("partition-table").hidden = lines.length === 0;
  byId("partition-none").hidden = health === null || lines.length > 0;
  setText(byId("partition-total"), lines.length ? count(lines.length) : "");
}

/** Rejected records by reason; `rows` is null while they are not known. */
export function showDeadLetters(rows) {
  const total = (rows ?? []).reduce((sum, row) => sum + row.records, 0);
  setText(byId("dead-total"), rows === null ? "–" : count(total));
  byId("dead-none").hidden = rows === null || rows.length > 0;
  byId("dead-table").hidden = !rows?.length;
  const lines = (rows ?? []).map((row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("code", {}, row.reason), " ", element("span", { class: "means" }, REASONS[row.reason] ?? "")),
      element("td", {}, count(row.records)),
    ),
  );
  byId("dead-rows").replaceChildren(...lines);
}

/** The rate at which the pipeline reads, from answers of `/health` some seconds apart. */
export class Rate {
  #samples = [];

  /** Takes an answer; the current rate, or null while there is none. */
  take(health, at) {
    if (health.epoch === null) return null;
    const { read, inRecords } = standingOf(health);
    // The pipeline was rebuilt.
    if (this.#samples.length && read < this.#samples.at(-1).read) this.#samples = [];
    this.#samples.push({ at, read, epoch: health.epoch });
    while (this.#samples.length > 2 && at - this.#samples[1].at >= RATE_OVER) this.#samples.shift();
    const first = this.#samples[0];
    const seconds = (at - first.at) / 1000;
    if (seconds < 1) return null;
    const speed = Math.round((read - first.read) / seconds);
    const commits = (health.epoch - first.epoch) / seconds;
    return {
      text: `${inRecords ? count(speed) : BYTES.format(speed)}/s`,
      note: `${inRecords ? "records" : "of the log"} read, in ${commits.toFixed(1)} commits a second`,
    };
  }
}
