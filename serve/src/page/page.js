// The page's behaviour: it asks this server for one image at a time, so that the grid fills as they come and every
// image has a seed of its own.

const byId = (id) => document.getElementById(id);
const form = byId("controls");
const gallery = byId("gallery");
const viewer = byId("viewer");

/** Classes that are offered side by side; more are searched by name. */
const MOST_CHIPS = 24;
/** Requests on their way at a time. */
const IN_FLIGHT = 4;
/** Longest side of an image that is shown with visible pixels. */
const SMALL = 96;
const MAX_SEED = (1n << 64n) - 1n;

let info;
let images = [];
let shown = 0;
let running = null;

// ---- Setting up -----------------------------------------------------------------------------------------------------

async function start() {
  const response = await fetch("info");
  if (!response.ok) throw new Error(`GET /info answered ${response.status}`);
  info = await response.json();
  const { manifest } = info.model;
  const { image, classes } = manifest.generator;
  document.title = `${manifest.name} · drifting`;
  byId("model-name").textContent = manifest.name;
  byId("model-facts").textContent = `One step from noise to ${image.width} × ${image.height} images, ${classes} classes`;
  byId("engine").textContent = engineText(info.engine);
  offerClasses(manifest.classes);
  offerAlpha(manifest.alpha);
  byId("count").max = info.limits.max_images;
  byId("count").value = Math.min(16, info.limits.max_images);
  byId("seed").value = drawSeed();
  readAddress();
  fitTiles();
}

function engineText(engine) {
  const text = `${engine.name} ${engine.version}, ${engine.threads} ${engine.threads === 1 ? "thread" : "threads"}`;
  return engine.fallback ? `${text} (ONNX Runtime is not available)` : text;
}

function offerClasses(names) {
  if (names.length > MOST_CHIPS) {
    const search = byId("class-search");
    search.hidden = false;
    search.required = true;
    search.value = names[0];
    byId("class-names").append(...names.map((name) => new Option(name)));
    return;
  }
  const chip = (value, name) => {
    const [label, input, text] = ["label", "input", "span"].map((tag) => document.createElement(tag));
    Object.assign(input, { type: "radio", name: "class", value, required: true });
    text.textContent = name;
    label.append(input, text);
    return label;
  };
  byId("class-chips").append(...names.map((name, index) => chip(index, name)), chip("every", "Every class"));
  form.elements.class.value = "0";
}

function offerAlpha({ min, max, default: usual }) {
  const alpha = byId("alpha");
  Object.assign(alpha, { min, max, step: "any", value: usual, disabled: min === max });
  const range = byId("alpha-range");
  range.replaceChildren(...[number(min), number(max)].map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  const show = () => { byId("alpha-value").textContent = number(chosenAlpha()); };
  alpha.addEventListener("input", show);
  alpha.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05, PageDown: -0.5, PageUp: 0.5 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    alpha.value = chosenAlpha() + step;
    show();
  });
  show();
}

/** Two decimals, and never outside of the range that the model was trained on. */
function chosenAlpha() {
  const { min, max } = info.model.manifest.alpha;
  return Math.min(max, Math.max(min, Math.round(byId("alpha").valueAsNumber * 100) / 100));
}

const number = (value) => String(Number(value.toFixed(4)));

function drawSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** Tiles are whole multiples of small images, so that all their pixels are equally large; a phone gets three in a row. */
function fitTiles() {
  const { width, height } = info.model.manifest.generator.image;
  const narrow = window.innerWidth < 500;
  const wanted = narrow ? (window.innerWidth - 52) / 3 : 145;
  const large = narrow ? wanted : 180;
  const tile = width <= SMALL ? width * Math.max(1, Math.floor(wanted / width)) : large;
  document.documentElement.style.setProperty("--tile", `${tile}px`);
  document.documentElement.style.setProperty("--ratio", `${width} / ${height}`);
}

// ---- The address keeps the settings ---------------------------------------------------------------------------------

function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const set = (id) => { if (wanted.has(id)) byId(id).value = wanted.get(id); };
  ["count", "alpha"].forEach(set);
  byId("alpha").dispatchEvent(new Event("input"));
  if (wanted.has("class")) {
    if (form.elements.class) form.elements.class.value = wanted.get("class");
    else byId("class-search").value = wanted.get("class");
    if (form.elements.class && !form.elements.class.value) form.elements.class.value = "0";
  }
  if (/^[0-9]{1,20}$/.test(wanted.get("seed") ?? "")) {
    byId("seed").value = wanted.get("seed");
    setLock(true);
  }
}

function writeAddress() {
  const settings = { class: chosenClass(), alpha: number(chosenAlpha()), seed: byId("seed").value, count: byId("count").value };
  history.replaceState(null, "", `#${new URLSearchParams(settings)}`);
}

const chosenClass = () => form.elements.class?.value ?? byId("class-search").value;

// ---- Generating -----------------------------------------------------------------------------------------------------

async function generate() {
  if (!isLocked() && images.length > 0) byId("seed").value = drawSeed();
  writeAddress();
  clear();
  const chosen = chosenClass();
  const classes = info.model.manifest.classes;
  const count = byId("count").valueAsNumber;
  const alpha = number(chosenAlpha());
  const first = BigInt(byId("seed").value);
  images = Array.from({ length: count }, (_, index) => {
    const which = chosen === "every" ? String(index % classes.length) : chosen;
    const seed = String((first + BigInt(index)) & MAX_SEED);
    const image = { query: new URLSearchParams({ class: which, alpha, seed }), class: classes[which] ?? which, alpha, seed };
    return Object.assign(image, { tile: tile(image, index) });
  });
  gallery.append(...images.map((image) => image.tile));
  running = new AbortController();
  byId("generate").classList.add("running");
  byId("generate").textContent = "Stop";
  const begun = performance.now();
  const waiting = [...images];
  const worker = async () => { while (waiting.length > 0 && running) await fill(waiting.shift(), running.signal); };
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    report(performance.now() - begun);
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
    images.filter((image) => !image.url).forEach((image) => image.tile.classList.add("failed"));
  } finally {
    running?.abort();
    running = null;
    byId("generate").classList.remove("running");
    byId("generate").textContent = "Generate";
    byId("tools").hidden = !images.some((image) => image.url);
  }
}

function tile(image, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.disabled = true;
  const [frame, caption, name, seed] = Array.from({ length: 4 }, () => document.createElement("span"));
  frame.className = "frame";
  caption.className = "caption";
  name.textContent = image.class;
  seed.textContent = image.seed;
  caption.append(name, seed);
  button.append(frame, caption);
  button.addEventListener("click", () => open(index));
  return button;
}

async function fill(image, signal) {
  const begun = performance.now();
  const response = await ask(image.query, signal);
  const headers = response.headers;
  image.total = performance.now() - begun;
  image.compute = Number(headers.get("x-compute-ms"));
  image.queue = Number(headers.get("x-queue-ms"));
  image.batch = headers.get("x-batch-size");
  image.url = URL.createObjectURL(await response.blob());
  const picture = new Image();
  picture.src = image.url;
  picture.alt = `${image.class}, alpha ${image.alpha}, seed ${image.seed}`;
  picture.className = sizeClass();
  await picture.decode();
  image.picture = picture;
  image.tile.firstChild.append(picture);
  image.tile.disabled = false;
  report();
}

/** One request; a full queue is asked again when it says so. */
async function ask(query, signal) {
  for (;;) {
    const response = await fetch(`generate?${query}`, { method: "POST", signal });
    if (response.ok) return response;
    if (response.status !== 429) {
      const body = await response.json().catch(() => null);
      throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
    }
    const pause = 1000 * Number(response.headers.get("retry-after") ?? 1);
    await new Promise((resolve) => { setTimeout(resolve, pause); });
    signal.throwIfAborted();
  }
}

function sizeClass() {
  const { width, height } = info.model.manifest.generator.image;
  return Math.max(width, height) <= SMALL ? "small-image" : "";
}

function report(elapsed) {
  const done = images.filter((image) => image.url);
  const median = (key) => done.map((image) => image[key]).sort((a, b) => a - b)[done.length >> 1];
  const each = `${milliseconds(median("total"))} a request, ${milliseconds(median("compute"))} of it in the engine`;
  const progress = elapsed === undefined ? `${done.length} of ${images.length}` : `${done.length} in ${milliseconds(elapsed)}`;
  byId("status").textContent = `${progress} · ${each}`;
}

const milliseconds = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

function clear() {
  images.forEach((image) => image.url && URL.revokeObjectURL(image.url));
  gallery.replaceChildren();
  byId("empty").hidden = true;
  byId("tools").hidden = true;
  byId("problem").hidden = true;
  byId("status").textContent = "";
}

function complain(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = false;
}

// ---- One image ------------------------------------------------------------------------------------------------------

function open(index) {
  const image = images[index];
  if (!image?.url) return;
  shown = index;
  const large = byId("large");
  large.src = image.url;
  large.alt = image.picture.alt;
  large.className = sizeClass();
  byId("viewer-title").textContent = image.class;
  const facts = {
    Alpha: image.alpha, Seed: image.seed, Engine: milliseconds(image.compute), Queue: milliseconds(image.queue),
    Request: milliseconds(image.total), Batch: image.batch,
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [["dt", name], ["dd", value]])
    .map(([tag, text]) => Object.assign(document.createElement(tag), { textContent: text })));
  byId("download").href = image.url;
  byId("download").download = fileName(image);
  byId("curl").textContent = "Copy as curl";
  byId("previous").disabled = !images[index - 1]?.url;
  byId("next").disabled = !images[index + 1]?.url;
  if (!viewer.open) viewer.showModal();
}

const fileName = (image) => `${image.class}-alpha${image.alpha}-seed${image.seed}.png`.replace(/[^\w.-]+/g, "_");

async function copyCurl() {
  const image = images[shown];
  const address = new URL(`generate?${image.query}`, location.href);
  const command = `curl -X POST '${address.href.replaceAll("'", "%27")}' -o '${fileName(image)}'`;
  try {
    await navigator.clipboard.writeText(command);
    byId("curl").textContent = "Copied";
  } catch {
    window.prompt("Copy this command", command);
  }
}

function useSeed() {
  byId("seed").value = images[shown].seed;
  setLock(true);
  writeAddress();
  viewer.close();
}

function saveSheet() {
  const pictures = images.filter((image) => image.picture).map((image) => image.picture);
  const { width, height } = info.model.manifest.generator.image;
  const [columns, gap] = [Math.ceil(Math.sqrt(pictures.length)), 2];
  const rows = Math.ceil(pictures.length / columns);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns * (width + gap) - gap, height: rows * (height + gap) - gap });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  pictures.forEach((picture, index) => {
    context.drawImage(picture, (index % columns) * (width + gap), Math.floor(index / columns) * (height + gap));
  });
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "drifting.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// ---- The lock -------------------------------------------------------------------------------------------------------

const isLocked = () => byId("lock").getAttribute("aria-pressed") === "true";
const setLock = (locked) => byId("lock").setAttribute("aria-pressed", String(locked));

// ---- Wiring ---------------------------------------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else if (info) generate();
});
byId("dice").addEventListener("click", () => { byId("seed").value = drawSeed(); });
byId("lock").addEventListener("click", () => setLock(!isLocked()));
byId("seed").addEventListener("input", () => setLock(true));
byId("previous").addEventListener("click", () => open(shown - 1));
byId("next").addEventListener("click", () => open(shown + 1));
byId("curl").addEventListener("click", copyCurl);
byId("reuse").addEventListener("click", useSeed);
byId("close").addEventListener("click", () => viewer.close());
byId("sheet").addEventListener("click", saveSheet);
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("close", () => images[shown]?.tile.focus());
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") open(shown - 1);
  if (event.key === "ArrowRight") open(shown + 1);
});
window.addEventListener("resize", () => { if (info) fitTiles(); });

/** Noise on the left that drifts into order on the right. */
function drawDots() {
  const circle = (x, y, r, opacity) => {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ cx: x, cy: y, r, opacity })) dot.setAttribute(name, value);
    return dot;
  };
  const dots = [];
  for (let column = 0; column < 15; column += 1) {
    for (let row = 0; row < 6; row += 1) {
      const disorder = Math.max(0, 1 - column / 9) * 7;
      const wobble = (k) => Math.sin(column * 12.9 + row * 78.2 + k * 37.7) * disorder;
      dots.push(circle(6 + column * 7.7 + wobble(1), 10 + row * 8 + wobble(2), 1.7, 0.25 + column * 0.045));
    }
  }
  byId("dots").append(...dots);
}

drawDots();
start().catch((error) => complain(`The page cannot start: ${error.message}`));
