// The page: asks this server for images, one request each, and shows them as they come.

import * as ask from "./ask.js";
import { Board } from "./board.js";
import { ClassPicker } from "./classes.js";
import { drawDots } from "./dots.js";
import { listen } from "./keys.js";
import { Past } from "./past.js";
import { MOST_CELLS, plan } from "./plan.js";
import { run } from "./run.js";
import * as settings from "./settings.js";
import { sheet } from "./sheet.js";
import { byId, drawSeed, median, milliseconds, save } from "./text.js";
import { Viewer } from "./viewer.js";

const form = byId("controls");
const picker = new ClassPicker();
const board = new Board((index) => viewer.open(current, index), () => fill());
const viewer = new Viewer({ reuse: restoreCell, sweep: sweepCell });
const past = new Past(async (wanted) => {
  await restore(wanted);
  byId("generate").focus({ preventScroll: true });
});

/** What `/info` says of the model in use. */
let info;
/** The model in use, where the server has several. */
let model;
/** What is on the board: `{ plan, settings, path, shape }`. */
let current;
/** Aborts the run. */
let running;
/** What is told while a full queue is waited for. */
let pause = "";
/** What `Try again` does. */
let again = () => {};

const names = () => info.model.manifest.classes;

// ---- Setting up -----------------------------------------------------------------------------------------------------

async function start() {
  quieten();
  try {
    await offerModels();
    await useModel();
  } catch (error) {
    complain(error, start);
  }
}

/** A choice of models, where there are several. */
async function offerModels() {
  const models = (await ask.json("models"))?.models ?? [];
  const select = byId("model");
  if (models.length < 2) return;
  const wanted = settings.fromAddress().model;
  select.replaceChildren(...models.map(({ name }) => new Option(name)));
  select.value = models.find(({ name }) => name === wanted)?.name ?? models.find((one) => one.default)?.name ?? models[0].name;
  select.hidden = false;
  byId("model-name").classList.add("hidden");
  model = select.value;
}

async function useModel() {
  info = await ask.json(ask.address(model, "info"));
  const { manifest } = info.model;
  const { image, classes } = manifest.generator;
  document.title = `${manifest.name} · drifting`;
  byId("model-name").textContent = manifest.name;
  byId("model-facts").textContent = `${image.width} × ${image.height} images in one step, ${classes} classes`;
  byId("engine").textContent = engineText(info.engine);
  picker.offer(manifest.classes);
  settings.bound(manifest);
  byId("seed").value = drawSeed();
  restore(settings.fromAddress());
}

function engineText(engine) {
  const text = `${engine.name} ${engine.version}, ${engine.threads} ${engine.threads === 1 ? "thread" : "threads"}`;
  return engine.fallback ? `${text} (ONNX Runtime is not available)` : text;
}

// ---- Settings that come from elsewhere ------------------------------------------------------------------------------

/** Takes settings over; a seed that comes with them is kept. */
async function restore(wanted) {
  if (wanted.model && wanted.model !== model && [...byId("model").options].some(({ value }) => value === wanted.model)) {
    byId("model").value = wanted.model;
    await changeModel();
  }
  settings.write(wanted, picker);
  if (wanted.seed) settings.setLock(true);
}

async function changeModel() {
  running?.abort();
  model = byId("model").value;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await useModel();
  } catch (error) {
    complain(error, changeModel);
  }
}

function restoreCell({ query, alpha, seed }) {
  restore({ mode: "images", classes: [query.get("class")], alpha, seed });
}

function sweepCell({ query, seed }) {
  restore({ mode: "sweep", classes: [query.get("class")], seed, count: "1" });
  generate();
}

// ---- Generating -----------------------------------------------------------------------------------------------------

function generate() {
  if (!info || !form.reportValidity()) return;
  if (current && !settings.isLocked()) byId("seed").value = drawSeed();
  quieten();
  const wanted = settings.read(picker, model);
  const next = plan(wanted, names());
  if (next.cells.length === 0) return complain(new ask.Refused("Choose a class first.", false));
  if (next.cells.length > MOST_CELLS) {
    return complain(new ask.Refused(`These are ${next.cells.length} images; the page makes ${MOST_CELLS} at most.`, false));
  }
  settings.keepInAddress(wanted);
  for (const { url } of current?.plan.cells ?? []) if (url) URL.revokeObjectURL(url);
  const shape = info.model.manifest.generator.image;
  current = { plan: next, settings: wanted, path: ask.address(model, "generate"), shape };
  const [title, subtitle] = settings.inWords(wanted, names());
  byId("title").textContent = title;
  byId("subtitle").textContent = subtitle;
  byId("empty").hidden = true;
  board.draw(next, shape);
  if (matchMedia("(max-width: 50rem)").matches) document.querySelector("main").scrollIntoView();
  return fill();
}

/** Asks for the images that the board lacks. */
async function fill() {
  if (running) return;
  quieten();
  const { cells } = current.plan;
  const missing = () => cells.filter((cell) => !cell.url);
  const own = new AbortController();
  running = own;
  board.wait(missing());
  showRunning(true);
  measure({});
  pause = "";
  try {
    await run(cells, current.path, { signal: own.signal, filled, paused });
    tell(`${cells.length} ${cells.length === 1 ? "image" : "images"}`);
  } catch (error) {
    board.fail(missing());
    if (error instanceof ask.Refused) complain(error, fill);
    else if (error.name === "AbortError") tell(`Stopped after ${cells.length - missing().length} of ${cells.length}`);
    else throw error;
  } finally {
    running = undefined;
    showRunning(false);
    const [first] = cells.filter((cell) => cell.url);
    byId("sheet").disabled = !first;
    if (first) past.add(current.settings, names(), first.picture);
  }
}

function filled(cell, times) {
  const { cells } = current.plan;
  board.show(cell);
  measure(times);
  const done = cells.filter(({ url }) => url).length;
  byId("generate").style.setProperty("--done", done / cells.length);
  tell(pause || `${done} of ${cells.length}`);
}

function paused(seconds) {
  pause = seconds > 0 ? `The server is busy; trying again in ${seconds} s` : "";
  tell(pause);
}

/** Times of this run: to the first and to the last image, and the usual ones within the server. */
function measure({ first, all }) {
  const done = current.plan.cells.filter(({ url }) => url);
  const usual = (key) => (done.length > 0 ? milliseconds(median(done.map((cell) => cell[key]))) : "–");
  byId("latency-first").textContent = milliseconds(first);
  byId("latency-all").textContent = milliseconds(all);
  byId("latency-queue").textContent = usual("queue");
  byId("latency-compute").textContent = usual("compute");
}

function showRunning(on) {
  const button = byId("generate");
  button.classList.toggle("running", on);
  if (on) button.style.setProperty("--done", 0);
  byId("generate-text").textContent = on ? "Stop" : "Generate";
  byId("board").ariaBusy = String(on);
}

function tell(text) {
  byId("status").textContent = text;
}

function complain({ message, again: worthwhile }, retry) {
  tell("");
  again = retry;
  byId("problem-text").textContent = message;
  byId("retry").hidden = !(retry && worthwhile);
  byId("problem").hidden = false;
}

function quieten() {
  byId("problem").hidden = true;
}

async function saveSheet() {
  if (byId("sheet").disabled) return;
  const name = `${info.model.manifest.name}-${current.settings.mode}-seed${current.settings.seed}.png`;
  save(await sheet(current.plan, current.shape), name.replace(/[^\w.-]+/g, "_"));
}

// ---- Wiring ---------------------------------------------------------------------------------------------------------

const click = (id, action) => byId(id).addEventListener("click", action);
const another = () => { byId("seed").value = drawSeed(); };
const turnLock = () => settings.setLock(!settings.isLocked());
const go = () => (running ? running.abort() : generate());
const setMode = (mode) => {
  if (form.elements.mode.value !== mode) settings.write({ mode }, picker);
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  go();
});
form.addEventListener("change", ({ target }) => { if (target.name === "mode") settings.write({ mode: target.value }, picker); });
byId("alpha").addEventListener("input", settings.showAlpha);
byId("alpha").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05, PageDown: -0.5, PageUp: 0.5 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  settings.moveAlpha(step);
});
byId("seed").addEventListener("input", () => settings.setLock(true));
byId("model").addEventListener("change", changeModel);
click("dice", another);
click("lock", turnLock);
click("sheet", saveSheet);
click("retry", () => again());
click("dismiss", quieten);
listen([
  ["g", "Generate, or stop", go],
  ["/", "Search the classes", () => picker.search()],
  ["r", "Draw another seed", another],
  ["l", "Keep the seed, or not", turnLock],
  ["[", "Less guidance", () => settings.moveAlpha(-0.05)],
  ["]", "More guidance", () => settings.moveAlpha(0.05)],
  ["1", "Images", () => setMode("images")],
  ["2", "Alpha sweep", () => setMode("sweep")],
  ["3", "Class sheet", () => setMode("sheet")],
  ["d", "Download all as one sheet", saveSheet],
  ["h", "History", () => past.open()],
  ["t", "Light or dark", () => byId("theme").click()],
], () => (running ? running.abort() : quieten()));

drawDots(byId("dots"));
start();
