// Questions to the service, by the same paths as any client. Answers are revalidated by their tags, which the browser keeps.

import { parseExactly } from "./metrics.js";

const TIMEOUT = 10_000;

/** An answer that is none: `status` 0 if the service could not be reached; `body` is what it said. */
export class Problem extends Error {
  constructor(status, detail, body = {}) {
    super(detail);
    this.status = status;
    this.body = body;
  }
}

/** The body, with amounts as text, and the commit it tells of. `query` values may be arrays; null and undefined are left out. */
export async function ask(path, query, signal) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) parameters.append(name, one);
  }
  const address = parameters.size ? `${path}?${parameters}` : path;
  let response, text;
  try {
    const options = { cache: "no-cache", credentials: "same-origin", signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]) };
    response = await fetch(address, options);
    text = await response.text();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem(0, error.name === "TimeoutError" ? "The service does not answer." : "The service is out of reach.");
  }
  if (!response.ok) {
    const body = bodyOf(text);
    throw new Problem(response.status, body.detail ?? body.error ?? `The service answers with status ${response.status}.`, body);
  }
  const body = parseExactly(text);
  // Of shapes that are older than epochs, the headers tell.
  const epoch = body.epoch ?? response.headers.get("x-tidemark-epoch");
  const watermark = body.watermark ?? response.headers.get("x-tidemark-watermark");
  return { body, epoch: epoch === null ? null : Number(epoch), watermark: watermark ? Date.parse(watermark) : null };
}

/** The body of `/health`. That the pipeline stands still is an answer too, although its status is an error's. */
export async function askHealth(signal) {
  try {
    return (await ask("health", {}, signal)).body;
  } catch (error) {
    if (!error.body?.db) throw error;
    return error.body;
  }
}

function bodyOf(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
