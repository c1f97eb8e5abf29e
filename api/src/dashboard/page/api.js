// Questions to the service, by the same paths as any client. Answers are revalidated by their tags, which the browser keeps.

import { parseExactly } from "./money.js";

const TIMEOUT = 10_000;

/** An answer that is none: `status` 0 if the service could not be reached. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
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
  if (!response.ok) throw new Problem(response.status, detailOf(text) ?? `The service answers with status ${response.status}.`);
  const body = parseExactly(text);
  // Of shapes that are older than epochs, the headers tell.
  const epoch = body.epoch ?? response.headers.get("x-tidemark-epoch");
  const watermark = body.watermark ?? response.headers.get("x-tidemark-watermark");
  return { body, epoch: epoch === null ? null : Number(epoch), watermark: watermark ? Date.parse(watermark) : null };
}

function detailOf(text) {
  try {
    const { detail, error } = JSON.parse(text);
    return detail ?? error;
  } catch {
    return undefined;
  }
}
