// Fills the cells of a plan, a few at a time, so that images appear as they are made.

import { Busy, Refused, image } from "./ask.js";

/** Requests on their way at a time: as many as browsers open connections to one server. */
const IN_FLIGHT = 6;

/**
 * Asks for the cells that have no image yet. `filled` hears of each, with milliseconds to the first one and so far;
 * `paused` of the seconds that a full queue wants. Throws the first error once everything on its way has ended.
 */
export async function run(cells, path, { signal, filled, paused }) {
  const begun = performance.now();
  const busy = new Busy(paused);
  const waiting = cells.filter((cell) => !cell.url);
  let first;
  const worker = async () => {
    while (waiting.length > 0) {
      const cell = waiting.shift();
      await fill(cell, path, { signal, busy });
      first ??= performance.now() - begun;
      filled(cell, { first, all: performance.now() - begun });
    }
  };
  let error;
  // What is on its way is still waited for, but nothing more is asked.
  const stop = (reason) => {
    error ??= reason;
    waiting.length = 0;
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, () => worker().catch(stop)));
  if (error) throw error;
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
