// Requests to this server, and what to tell people when they fail.

/** A request that came to nothing. The message is for people; `again` says whether another try may help. */
export class Refused extends Error {
  constructor(message, again) {
    super(message);
    this.again = again;
  }
}

/** Where the routes of a model are: the default's have no prefix. Relative, so that the server may lie behind a path. */
export const address = (model, path) => (model ? `models/${encodeURIComponent(model)}/${path}` : path);

/** A JSON document of this server; `null` if it does not have it. */
export async function json(path) {
  const response = await send(path, {});
  if (response.status === 404) return null;
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/**
 * One image. While the queue is full it is asked for again when the server says so; `busy` is shared by the requests of
 * a run, so that they pause together.
 */
export async function image(path, query, { signal, busy }) {
  for (;;) {
    await busy.over(signal);
    const response = await send(`${path}?${query}`, { method: "POST", signal });
    if (response.ok) return response;
    if (response.status !== 429) throw await refusal(response);
    busy.until(Number(response.headers.get("retry-after")) || 1);
  }
}

/** A pause that the server asked for. */
export class Busy {
  #end = 0;
  #tell;

  /** `tell` hears the seconds that are left when a pause begins, and 0 when it is over. */
  constructor(tell) {
    this.#tell = tell;
  }

  until(seconds) {
    const end = performance.now() + seconds * 1000;
    if (end > this.#end) {
      this.#end = end;
      this.#tell(seconds);
    }
  }

  /** Waits for the pause's end, and a little longer, so that not everyone comes back at once. */
  async over(signal) {
    while (performance.now() < this.#end) {
      await sleep(this.#end - performance.now() + Math.random() * 200, signal);
      if (performance.now() >= this.#end) this.#tell(0);
    }
  }
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. It may be starting again, or the connection is gone.", true);
  }
}

async function refusal(response) {
  const error = (await response.json().catch(() => null))?.error;
  const number = error?.request_id ? ` Its log knows this request as ${error.request_id}.` : "";
  switch (response.status) {
    case 401: case 403: return new Refused("The server wants a key. Load the page again to give one.", false);
    case 503: return new Refused("The server is shutting down and takes no new images. It may be back in a moment.", true);
    case 504: return new Refused("The images were not ready in time: the server has more to do than it can.", true);
    case 502: return new Refused("The server behind this address does not answer.", true);
    default:
  }
  if (response.status >= 500) return new Refused(`Something went wrong in the server.${number}`, true);
  return new Refused(error?.message ? `The server refuses this: ${error.message}.` : `The server answers ${response.status}.`, false);
}
