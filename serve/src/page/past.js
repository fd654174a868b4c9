// What was generated before, kept in this browser. Where it keeps nothing, until the page is left.

import { inWords } from "./settings.js";
import { byId, element } from "./text.js";

/** Requests that are remembered. */
const MOST = 24;
/** Longest side of a remembered image, in pixels. */
const THUMB = 56;
/** Servers behind one host, each under a path of its own, do not mix. */
const KEY = `drifting-past ${location.pathname}`;

const dialog = byId("past");

export class Past {
  #entries = kept();
  #restore;

  /** `restore` is called with the settings of an entry that is clicked. */
  constructor(restore) {
    this.#restore = restore;
    byId("open-past").addEventListener("click", () => this.open());
    byId("close-past").addEventListener("click", () => dialog.close());
    byId("forget").addEventListener("click", () => this.#keep([]));
    dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
  }

  open() {
    this.#draw();
    dialog.showModal();
  }

  /** Remembers settings with an image of theirs; the same settings are remembered once. */
  add(settings, names, picture) {
    const [title, subtitle] = inWords(settings, names);
    const same = JSON.stringify(settings);
    const others = this.#entries.filter((entry) => JSON.stringify(entry.settings) !== same);
    this.#keep([{ settings, title, subtitle, thumb: thumb(picture), when: Date.now() }, ...others].slice(0, MOST));
  }

  #keep(entries) {
    this.#entries = entries;
    try {
      localStorage.setItem(KEY, JSON.stringify(entries));
    } catch { /* Forbidden or full. */ }
    if (dialog.open) this.#draw();
  }

  #draw() {
    byId("past-none").hidden = this.#entries.length > 0;
    byId("forget").hidden = this.#entries.length === 0;
    byId("past-list").replaceChildren(...this.#entries.map((entry) => {
      const title = element("b", { textContent: entry.title });
      const words = element("span", { className: "quiet small", textContent: entry.subtitle });
      const when = element("time", { className: "quiet small", dateTime: new Date(entry.when).toISOString(), textContent: ago(entry.when) });
      const image = element("img", { src: entry.thumb, alt: "", width: 44, height: 44, className: "pixels" });
      const button = element("button", { type: "button" }, image, title, when, words);
      button.addEventListener("click", () => {
        dialog.close();
        this.#restore(entry.settings);
      });
      return element("li", {}, button);
    }));
  }
}

function kept() {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return entries.filter(({ settings, title, thumb: image }) => Array.isArray(settings.classes) && title && image.startsWith("data:image/"));
  } catch {
    return [];
  }
}

function thumb(picture) {
  const scale = Math.min(1, THUMB / Math.max(picture.naturalWidth, picture.naturalHeight));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(picture.naturalWidth * scale)),
    height: Math.max(1, Math.round(picture.naturalHeight * scale)),
  });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL(scale === 1 ? "image/png" : "image/webp", 0.8);
}

function ago(when) {
  const minutes = Math.floor((Date.now() - when) / 60_000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h` : new Date(when).toLocaleDateString();
}
