// Fills the cells of a plan, a few at a time, so that images appear as they are made.

import { Busy, Refused, image } from "./ask.js";

/** Requests on their way at a time: as many as browsers open connections to one server. */
const IN_FLIGHT = 6;

/**
 * Asks for the cells that have no image yet. `filled` hears of each, `paused` of the seconds that a full queue wants.
 * Returns milliseconds to the first image and to the last one.
 */
export async function run(cells, path, { signal, filled, paused }) {
  const begun = performance.now();
  const busy = new Busy(paused);
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const waiting = cells.filter((cell) => !cell.url);
  let first;
  const worker = async () => {
    while (waiting.length > 0) {
      const cell = waiting.shift();
      await fill(cell, path, { signal: either, busy });
      first ??= performance.now() - begun;
      filled(cell, { first, all: performance.now() - begun });
    }
  };
  const stopping = (error) => {
    failed.abort(error);
    throw error;
  };
  const workers = Array.from({ length: IN_FLIGHT }, () => worker().catch(stopping));
  const results = await Promise.allSettled(workers);
  const errors = results.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  // The others ended because the first one did.
  if (errors.length > 0) throw errors.find((error) => error instanceof Refused) ?? errors[0];
}

async function fill(cell, path, options) {
  const begun = performance.now();
  const response = await image(path, cell.query, options);
  const header = (name) => Number(response.headers.get(name));
  cell.queue = header("x-queue-ms");
  cell.compute = header("x-compute-ms");
  cell.batch = header("x-batch-size");
  const blob = await response.blob();
  options.signal.throwIfAborted();
  const url = URL.createObjectURL(blob);
  const picture = Object.assign(new Image(), { src: url, alt: `${cell.className}, alpha ${cell.alpha}, seed ${cell.seed}` });
  try {
    await picture.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Refused("The server's answer is no image.", true);
  }
  Object.assign(cell, { url, picture, total: performance.now() - begun });
}
