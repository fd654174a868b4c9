// What is to be made: read from the form, written to it, kept in the address.

import { EVERY } from "./classes.js";
import { byId, number } from "./text.js";

const form = byId("controls");

/** How many there are to be, in each mode that counts. */
const counts = { images: "16", sweep: "4" };
let shown = "images";

/** The settings as the form has them: texts, as in an address. */
export function read(picker, model) {
  const mode = form.elements.mode.value;
  const common = { mode, classes: picker.chosen(mode), seed: byId("seed").value, ...(model && { model }) };
  switch (mode) {
    case "images": return { ...common, alpha: number(alpha()), count: byId("count").value };
    case "sweep": return { ...common, ...range(), count: byId("count").value };
    default: return { ...common, ...range() };
  }
}

const range = () => ({ from: byId("from").value, to: byId("to").value, steps: byId("steps").value });

/** Puts into the form what `settings` has; what they lack or what is out of range stays as it is. */
export function write(settings, picker) {
  const modes = ["images", "sweep", "sheet"];
  const mode = modes.includes(settings.mode) ? settings.mode : form.elements.mode.value;
  form.elements.mode.value = mode;
  showMode(mode);
  for (const name of ["alpha", "from", "to", "steps", "count", "seed"]) {
    const field = byId(name);
    const before = field.value;
    if (settings[name] === undefined) continue;
    field.value = settings[name];
    if (!field.validity.valid || field.value === "") field.value = before;
  }
  picker.show(mode, settings.classes);
  showAlpha();
}

/** Fields that `mode` does not have are out of sight and out of validation. */
export function showMode(mode) {
  const show = (id, shown) => {
    byId(id).hidden = !shown;
    if ("disabled" in byId(id)) byId(id).disabled = !shown;
  };
  show("one-alpha", mode === "images");
  show("many-alphas", mode !== "images");
  show("count-field", mode !== "sheet");
  show("count", mode !== "sheet");
  byId("count-name").textContent = mode === "sweep" ? "Rows" : "Images";
  if (mode === shown) return;
  counts[shown] = byId("count").value;
  byId("count").value = counts[mode] ?? byId("count").value;
  shown = mode;
}

/** Bounds and defaults of a model. */
export function bound({ alpha: { min, max, default: usual } }) {
  const slider = byId("alpha");
  Object.assign(slider, { min, max, disabled: min === max });
  slider.value = usual;
  for (const name of ["from", "to"]) Object.assign(byId(name), { min, max });
  byId("from").value = number(min);
  byId("to").value = number(max);
  byId("alpha-min").textContent = number(min);
  byId("alpha-max").textContent = number(max);
  showAlpha();
}

/** Two decimals, and never outside of the range that the model was trained on. */
export function alpha() {
  const { min, max, valueAsNumber } = byId("alpha");
  return Math.min(max, Math.max(min, Math.round(valueAsNumber * 100) / 100));
}

export function showAlpha() {
  byId("alpha-value").textContent = number(alpha());
}

/** Moves the slider by `step`, on hundredths. */
export function moveAlpha(step) {
  byId("alpha").value = alpha() + step;
  showAlpha();
}

export const isLocked = () => byId("lock").getAttribute("aria-pressed") === "true";
export const setLock = (locked) => byId("lock").setAttribute("aria-pressed", String(locked));

/** The settings in the address, so that it can be passed on. */
export function keepInAddress({ classes, ...settings }) {
  history.replaceState(null, "", `#${new URLSearchParams({ ...settings, class: classes.join(",") })}`);
}

/** The settings that the address brings. */
export function fromAddress() {
  const { class: classes, ...settings } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { ...settings, ...(classes && { classes: classes.split(",") }) };
}

/** The settings in a few words; `names` are those of the classes. */
export function inWords({ mode, classes, alpha: one, from, to, count, seed }, names) {
  const name = classes[0] === EVERY ? "Every class" : names[classes[0]];
  switch (mode) {
    case "images": return [name, `${count} ${count === "1" ? "image" : "images"}, alpha ${one}, seed ${seed}`];
    case "sweep": return [`${name}, alpha ${from} to ${to}`, `seed ${seed}${count === "1" ? "" : ` and ${count - 1} more`}`];
    default: return [`${classes.length === 1 ? name : `${classes.length} classes`}, alpha ${from} to ${to}`, `seed ${seed}`];
  }
}
