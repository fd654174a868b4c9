// The class picker: one class, or several for a sheet; found by name or number.

import { byId, element } from "./text.js";

/** Classes that are listed at a time; the others are found by searching. */
const MOST = 200;
/** Classes of a sheet that are chosen at first. */
const FIRST = 10;
/** In place of one class: each in turn. */
export const EVERY = "every";

export class ClassPicker {
  #list = byId("class-list");
  #search = byId("class-search");
  #names = [];
  #mode = "images";
  #one = "0";
  #several = new Set();

  constructor() {
    this.#search.addEventListener("input", () => this.#draw());
    this.#search.addEventListener("keydown", (event) => this.#key(event));
    byId("class-turn").addEventListener("click", () => this.#turn());
    this.#list.addEventListener("change", ({ target }) => this.#choose(target.value, target.checked));
  }

  /** Offers other classes; what was chosen stays if it still exists. */
  offer(names) {
    this.#names = names;
    if (this.#one !== EVERY && !names[this.#one]) this.#one = "0";
    this.#several = new Set([...this.#several].filter((id) => names[id]));
    if (this.#several.size === 0) this.#several = new Set([...names.keys()].slice(0, FIRST).map(String));
    this.#search.placeholder = `Search ${names.length} classes`;
    this.#search.value = "";
    this.#draw();
  }

  /** What is chosen in `mode`: numbers of classes, or EVERY. */
  chosen(mode) {
    if (mode === "sheet") return [...this.#several].sort((a, b) => a - b);
    return [mode === "sweep" && this.#one === EVERY ? "0" : this.#one];
  }

  /** Shows `mode`, and in it `chosen` if that is given and exists. */
  show(mode, chosen) {
    this.#mode = mode;
    const known = chosen?.filter((id) => this.#names[id] || (id === EVERY && mode === "images")) ?? [];
    if (known.length > 0 && mode === "sheet") this.#several = new Set(known);
    else if (known.length > 0) [this.#one] = known;
    byId("class-legend").textContent = mode === "sheet" ? "Classes" : "Class";
    this.#draw();
  }

  search() {
    this.#search.focus();
    this.#search.select();
  }

  #choose(id, on) {
    if (this.#mode === "sheet") {
      if (on) this.#several.add(id);
      else this.#several.delete(id);
      this.#count();
    } else this.#one = id;
  }

  /** None of the classes, or again the first ones. */
  #turn() {
    this.#several = new Set(this.#several.size > 0 ? [] : [...this.#names.keys()].slice(0, FIRST).map(String));
    this.#draw();
  }

  #key(event) {
    const first = this.#list.querySelector("input");
    if (event.key === "Enter") {
      event.preventDefault();
      if (!first || !this.#search.value) return;
      this.#choose(first.value, true);
      this.#search.value = "";
      this.#draw();
    } else if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      (this.#list.querySelector(":checked") ?? first).focus();
    } else if (event.key === "Escape" && this.#search.value) {
      event.preventDefault();
      this.#search.value = "";
      this.#draw();
    }
  }

  /** Names that begin with the words come first, then those that hold them. */
  #found() {
    const words = this.#search.value.trim().toLowerCase();
    const all = this.#names.map((name, id) => ({ id: String(id), name, text: name.toLowerCase() }));
    const holds = all.filter(({ id, text }) => id === words || text.includes(words));
    return words ? holds.sort((a, b) => rank(a, words) - rank(b, words)) : holds;
  }

  #draw() {
    const found = this.#found();
    const several = this.#mode === "sheet";
    const chosen = new Set(this.chosen(this.#mode));
    // What is chosen is always in sight.
    const listed = found.slice(0, MOST);
    listed.push(...found.slice(MOST).filter(({ id }) => chosen.has(id)));
    const chips = listed.map(({ id, name }) => chip(several, id, name, chosen.has(id)));
    if (this.#mode === "images" && !this.#search.value) chips.push(chip(several, EVERY, "Every class", chosen.has(EVERY)));
    const hidden = found.length - listed.length;
    if (hidden > 0) chips.push(note(`and ${hidden} more: search for them`));
    if (chips.length === 0) chips.push(note("No class is called that."));
    this.#list.replaceChildren(...chips);
    const checked = this.#list.querySelector(":checked");
    this.#list.scrollTop = checked ? checked.parentElement.offsetTop - this.#list.clientHeight / 2 : 0;
    this.#count();
  }

  #count() {
    const sheet = this.#mode === "sheet";
    byId("class-note").textContent = sheet ? `${this.#several.size} of ${this.#names.length}` : "";
    byId("class-turn").hidden = !sheet;
    byId("class-turn").textContent = this.#several.size > 0 ? "None" : `First ${Math.min(FIRST, this.#names.length)}`;
  }
}

function rank({ id, text }, words) {
  if (id === words || text === words) return 0;
  return text.startsWith(words) ? 1 : 2;
}

const note = (textContent) => element("p", { className: "quiet small", textContent });

function chip(several, value, name, checked) {
  const input = element("input", { type: several ? "checkbox" : "radio", name: "class", value, checked });
  return element("label", {}, input, element("span", { textContent: name }));
}
