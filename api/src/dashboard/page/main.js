// Puts the page together: where the reader is → what is asked and what is pushed → what is shown. Each part is its own module.

import { ask, askHealth } from "./api.js";
import { showChoice } from "./choose.js";
import { showConnection } from "./connection.js";
import { byId, setAttribute, setText } from "./dom.js";
import { showFigures } from "./figures.js";
import { MINUTE, capitalised, count, moment, span, visible } from "./format.js";
import { Live } from "./live.js";
import { grainOf } from "./grains.js";
import { LEVELS, each, named, peakIn, valueOf } from "./metrics.js";
import { RANGES, go, href, onChange, read } from "./place.js";
import { Rate, isQuiet, showDeadLetters, showPartitions, showPipeline } from "./pipeline.js";
import { Plot } from "./plot.js";
import { Refresh } from "./refresh.js";
import { Series, bucketSize, buckets, withoutLevels } from "./series.js";
import { showStreams } from "./streams.js";
import { showTable } from "./table.js";

const TOP_STREAMS = 10;

let place = read();
let series = new Series(place.grain);
let picture = null; // what the last answers said about this place; null while there is none
let pipeline = { health: null, deadLetters: null, rate: null, problem: null };
let connection = { open: false, wasLost: false, fresh: false, unreachable: false, asOf: null, problem: null };
let newest = 0; // commit that anything pushed or asked told of; 0 before the first
let clockOffset = 0; // of the service's clock from this machine's
let watched = null; // the streams whose rows are pushed

const plot = new Plot();
const rate = new Rate();
const pictureLoop = new Refresh(askPicture);
const healthLoop = new Refresh(refreshHealth);
const deadLettersLoop = new Refresh(askDeadLetters, 5_000); // counts them all, which may be many
const live = new Live({
  opened() {
    connection.open = true;
    connection.wasLost = false;
    pictureLoop.restart();
    healthLoop.restart();
    deadLettersLoop.restart();
    render();
  },
  lost() {
    connection.open = false;
    connection.wasLost = true;
    connection.fresh = false;
    render();
  },
  rows(rows, commit) {
    newest = Math.max(newest, commit.epoch ?? 0);
    // The sums over all streams are asked for: what is pushed of some streams says nothing about them.
    if (place.stream && commit.epoch !== null) series.push(rows, commit);
    pictureLoop.poke();
    healthLoop.poke();
    deadLettersLoop.poke();
    render();
  },
  reset() {
    newest = 0;
    series.reset();
    pictureLoop.poke();
  },
});

const now = () => Date.now() + clockOffset;

/** Whether numbers are pushed, or never change. */
const isServed = () => connection.open || place.to;

/** Whether what was pushed is pushed no more. An answer that was on its way may still come, and is as of its coming. */
const isCutOff = () => !isServed() && connection.wasLost;

/** When what is shown was right: now, unless newer numbers cannot be had. Nothing of it changes while time goes on without them. */
const shownAt = () => (connection.fresh && !isCutOff() ? now() : (connection.asOf ?? now()));

/** The whole windows that the place means: [from, to). */
function range() {
  const { width } = place.grain;
  const to = place.to ?? Math.floor(shownAt() / width) * width + width;
  return { from: to - place.minutes * MINUTE, to };
}

async function askPicture(signal) {
  const asked = place;
  const { from, to } = range();
  const grain = asked.grain.name;
  const bounds = asked.to ? { grain, from: new Date(from).toISOString(), to: new Date(to).toISOString() } : { grain, minutes: asked.minutes };
  const by = peakIn(named([asked.by])[0], asked.grain).name;
  try {
    const [rows, top] = await Promise.all([
      askRows(asked, bounds, signal),
      asked.to ? null : ask("streams/top", { ...bounds, n: TOP_STREAMS, by }, signal),
    ]);
    series.answer(rows.body.rows, rows.epoch, rows.watermark);
    picture = { place: asked, series, present: presentOf(asked, rows.body), top: top?.body.rows ?? null, topEpoch: top?.epoch ?? null };
    connection.fresh = true;
    connection.asOf = now();
    connection.problem = null;
    connection.unreachable = false;
    watch();
  } catch (error) {
    if (signal.aborted) throw error;
    connection.fresh = false;
    connection.unreachable = error.status === 0;
    connection.problem = error.status ? error.message : null;
    throw error;
  } finally {
    if (!signal.aborted) render();
  }
}

async function askRows(asked, bounds, signal) {
  if (!asked.stream) return ask("metrics/totals", bounds, signal);
  const rows = () => ask("metrics", { stream_id: asked.stream, ...bounds, limit: 1500 }, signal);
  if (asked.to) return rows();
  try {
    // Not by a path: a name may be a word of the service's own, or dots that are never sent as such.
    return await ask("stream", { stream_id: asked.stream, ...bounds }, signal);
  } catch (error) {
    // A stream that never was is no failure: it has no rows yet, and may have some in a moment.
    if (error.status !== 404) throw error;
    return rows();
  }
}

/** The levels at present: of all streams with a note, or of one stream, since when. */
function presentOf(asked, body) {
  if (asked.to) return null;
  const [newest] = body.rows;
  if (asked.stream) {
    const state = body.state ?? (asked.grain.grows ? null : newest);
    return state ? { ...levelsOf(state), since: Date.parse(state.window_start) } : null;
  }
  if (asked.grain.grows) {
    // Streams that were last seen days ago would add viewers who have left since. The newest row counts who is present.
    return newest ? { ...levelsOf(newest), note: `at ${moment(series.levelAt(Date.parse(newest.window_start)), now())}` } : null;
  }
  const { streams } = body.present;
  return { ...levelsOf(body.present), note: `in ${count(streams)} ${streams === 1 ? "stream" : "streams"} seen in the last ${span(asked.minutes)}` };
}

const levelsOf = (row) => each(LEVELS, (metric) => valueOf(metric, row));

async function refreshHealth(signal) {
  try {
    const body = await askHealth(signal);
    if (body.server_time_utc) clockOffset = Date.parse(body.server_time_utc) - Date.now();
    pipeline.health = body;
    newest = Math.max(newest, body.epoch ?? 0);
    pipeline.rate = rate.take(body, performance.now());
    pipeline.problem = null;
  } catch (error) {
    if (signal.aborted) throw error;
    pipeline.problem = error;
    // A connection that is silently dead looks open for long; a service that answers nothing is not.
    if (error.status === 0 && connection.open) live.restart();
    throw error;
  } finally {
    if (!signal.aborted) render();
  }
}

async function askDeadLetters(signal) {
  pipeline.deadLetters = (await ask("dead-letters", {}, signal)).body.rows;
  render();
}

/** Has the rows pushed of the stream that is looked at, or of the top streams: with all, they tell when to ask again. */
function watch() {
  // What is past changes seldom, if at all: asking now and then is enough.
  const top = picture?.top?.map((row) => row.stream_id);
  const wanted = place.to ? null : place.stream ? [place.stream] : watched?.all && watched.streams.length ? watched.streams : top;
  if (wanted === undefined || sameStreams(wanted, watched?.streams ?? null)) return;
  connection.open = false;
  watched = wanted && { streams: wanted, all: !place.stream };
  if (wanted) live.watch(wanted);
  else live.stop();
}

function sameStreams(a, b) {
  return a === b || (a !== null && b !== null && a.length === b.length && a.every((id, index) => id === b[index]));
}

function connectionState() {
  const committedAt = pipeline.health?.committed_at;
  if (connection.problem || (pipeline.problem?.status ?? 0) > 0) return "ill";
  if (connection.unreachable || pipeline.problem || isCutOff()) return "lost";
  if (!isServed() || !connection.fresh || !picture) return "connecting";
  if (pipeline.health?.error || (committedAt && isQuiet(Date.parse(committedAt), now()))) return "quiet";
  return place.to ? "past" : "live";
}

let planned = false;

/** Shows everything in the next frame: several changes cost one. */
function render() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    showPlace();
    showPicture();
    const { health } = pipeline;
    showPipeline(health, pipeline.rate, now());
    showPartitions(health, now());
    showDeadLetters(pipeline.deadLetters);
    showConnection({
      state: connectionState(),
      epoch: newest || null,
      committedAt: health?.committed_at ? Date.parse(health.committed_at) : null,
      asOf: connection.asOf,
      now: now(),
      problem: connection.problem ?? pipeline.problem?.message ?? pipeline.health?.error ?? null,
    });
  });
}

function showPlace() {
  const name = place.stream ? visible(place.stream) : "All streams";
  setText(byId("title"), name);
  document.title = `${name} · Tidemark`;
  showChoice(place);
  byId("back").hidden = !place.stream;
  byId("back").href = href({ ...place, stream: null });
  for (const minutes of RANGES) {
    const link = byId(`range-${minutes}`);
    link.href = href({ ...place, minutes, to: place.to && endFrom(place.to, grainOf(minutes)) });
    setAttribute(link, "aria-current", minutes === place.minutes && "true");
  }
  const { from, to } = range();
  byId("earlier").href = href({ ...place, to: from });
  const isNow = !place.to;
  byId("later").hidden = isNow;
  byId("later").href = href({ ...place, to: endFrom(to + place.minutes * MINUTE, place.grain) });
  byId("now").hidden = isNow;
  byId("now").href = href({ ...place, to: null });
  const start = moment(from, now());
  setText(byId("range-text"), isNow ? `Last ${span(place.minutes)}, ${start} to now, UTC` : `${start} to ${moment(to, from)}, UTC`);
}

/** The first end of such a window at or after an instant; null, which is now, if it is still to come. */
function endFrom(instant, { width }) {
  const end = Math.ceil(instant / width) * width;
  return end > now() ? null : end;
}

function showPicture() {
  const shown = picture && samePicture(picture.place, place);
  document.body.classList.toggle("loading", !shown);
  byId("picture").dataset.epoch = shown ? picture.series.epoch : "";
  byId("top").dataset.epoch = shown ? (picture.topEpoch ?? "") : "";
  showStreams(place.to ? [] : shown ? picture.top : null, place, place.to ? "" : `Last ${span(place.minutes)}`);
  if (!shown) return;
  const { grain } = place;
  const known = picture.series; // not `series`, which waits for its first answer when the windows are other ones
  const { from, to } = range();
  const end = place.to ?? to + 10 * MINUTE; // rows of clocks that are ahead are part of now
  const at = shownAt();
  // A running minute has rows of those streams only that were heard of in it: their sum would look like a drop.
  const isPartial = ({ start }) => !place.stream && !grain.grows && start + grain.width > at;
  const rows = known.between(from, end).map((row) => (isPartial(row) ? withoutLevels(row) : row));
  const isFinal = (start) => known.isFinal(start);
  const upTo = Math.max(to, ...rows.slice(-1).map(({ start }) => start + grain.width));
  showFigures(rows, isFinal, presentNow(rows.at(-1), at), at, place);
  const size = bucketSize(place.minutes, grain);
  const drawn = buckets(known, rows, from, upTo, size * grain.width);
  plot.show({ buckets: drawn, size, grain, from, to: upTo, watermark: known.watermark, now: at, shown: place.shown });
  showTable(rows, isFinal, at, place);
  setText(byId("legend-open"), grain.grows ? "still growing: made of closed minutes" : "may still change");
  byId("no-rows").hidden = rows.length > 0;
  const missing = `No ${grain.grows ? grain.name : "event"}${place.stream ? " of this stream" : ""} in this range.`;
  setText(byId("no-rows-text"), grain.grows ? `${missing} ${capitalised(grain.name)}s are made of closed minutes.` : missing);
}

/** The newest minute is newer than the state that was asked for, if it was pushed since. */
function presentNow(newest, at) {
  const { present } = picture;
  if (!place.stream || !present) return present;
  const isNewer = newest && !place.grain.grows && newest.start >= present.since;
  const latest = isNewer ? { ...newest, since: newest.start } : present;
  const end = latest.since + MINUTE;
  const silent = at - end > 2 * MINUTE;
  const note = `at ${moment(end, at)}${silent ? ", when it was last heard of" : ""}`;
  return { ...latest, note: end > at ? "in the running minute" : note };
}

function samePicture(a, b) {
  return a.stream === b.stream && a.minutes === b.minutes && a.to === b.to && a.by === b.by;
}

onChange((next) => {
  const previous = place;
  place = next;
  const isElsewhere = previous.stream !== next.stream || previous.to !== next.to;
  if (isElsewhere || previous.grain !== next.grain) series = new Series(next.grain);
  if (isElsewhere) picture = null;
  if (previous.stream !== next.stream) {
    setText(byId("announcement"), `Showing ${next.stream ? visible(next.stream) : "all streams"}.`);
    byId("title").focus({ preventScroll: true });
    scrollTo({ top: 0 });
  }
  watch();
  pictureLoop.restart();
  render();
});

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const stream = byId("find-name").value;
  if (stream) go({ ...place, stream });
});
byId("table").addEventListener("toggle", render);
setInterval(render, 1_000); // ages grow without anything happening

render();
pictureLoop.restart();
healthLoop.restart();
deadLettersLoop.restart();
watch();
