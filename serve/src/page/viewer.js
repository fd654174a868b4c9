// One image, large, with what is known of it.

import { fitted, isSmall } from "./board.js";
import { byId, copy, element, milliseconds, quoted } from "./text.js";

const viewer = byId("viewer");

export class Viewer {
  #cells = [];
  #shown = 0;
  #path = "generate";
  #shape = { width: 1, height: 1 };

  /** `reuse` and `sweep` are called with the cell whose settings are wanted. */
  constructor({ reuse, sweep }) {
    const click = (id, action) => byId(id).addEventListener("click", action);
    const leave = (action) => () => {
      const cell = this.#cells[this.#shown];
      viewer.close();
      action(cell);
    };
    click("previous", () => this.#step(-1));
    click("next", () => this.#step(1));
    click("close", () => viewer.close());
    click("curl", () => this.#copy());
    click("reuse", leave(reuse));
    click("sweep-this", leave(sweep));
    viewer.addEventListener("click", ({ target }) => { if (target === viewer) viewer.close(); });
    viewer.addEventListener("close", () => this.#cells[this.#shown]?.tile.focus());
    // Of the document: the focus may have been on a button that is disabled at the end of the row.
    document.addEventListener("keydown", (event) => { if (viewer.open) this.#key(event); });
    addEventListener("resize", () => { if (viewer.open) this.#fit(); });
    swiped(viewer.querySelector(".stage"), (direction) => this.#step(direction));
  }

  /** Shows the cell at `index` of what is on the board, if it has an image. */
  open({ plan: { cells }, path, shape }, index) {
    this.#cells = cells;
    this.#path = path;
    this.#shape = shape;
    if (!cells[index]?.url) return;
    this.#shown = index;
    if (!viewer.open) viewer.showModal();
    this.#draw(cells[index]);
  }

  #draw(cell) {
    const large = byId("large");
    Object.assign(large, { src: cell.url, alt: cell.picture.alt, className: isSmall(this.#shape) ? "pixels" : "" });
    this.#fit();
    byId("viewer-title").textContent = cell.className;
    byId("viewer-place").textContent = `${this.#shown + 1} of ${this.#cells.length}`;
    const facts = {
      Alpha: cell.alpha,
      Seed: cell.seed,
      Request: milliseconds(cell.total),
      Queue: milliseconds(cell.queue),
      Engine: milliseconds(cell.compute),
      Batch: String(cell.batch),
    };
    byId("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => (
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })))));
    Object.assign(byId("download"), { href: cell.url, download: fileName(cell) });
    byId("command").textContent = this.#command(cell);
    byId("curl").textContent = "Copy as curl";
    byId("previous").disabled = this.#beside(-1) === undefined;
    byId("next").disabled = this.#beside(1) === undefined;
  }

  /** As large as the stage lets it be. */
  #fit() {
    const { clientWidth, clientHeight } = viewer.querySelector(".stage");
    const room = Math.min(clientWidth - 2 * 52, Math.max(clientHeight, 300) - 2 * 24);
    const large = byId("large");
    large.style.setProperty("width", `${fitted(this.#shape, Math.max(room, 56))}px`);
    large.style.setProperty("aspect-ratio", `${this.#shape.width} / ${this.#shape.height}`);
  }

  /** The nearest cell in a direction that has an image. */
  #beside(direction) {
    for (let index = this.#shown + direction; index in this.#cells; index += direction) {
      if (this.#cells[index].url) return index;
    }
    return undefined;
  }

  #step(direction) {
    const index = this.#beside(direction);
    if (index === undefined) return;
    this.#shown = index;
    this.#draw(this.#cells[index]);
  }

  #key(event) {
    const end = (direction) => { while (this.#beside(direction) !== undefined) this.#shown = this.#beside(direction); };
    const action = {
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      Home: () => { end(-1); this.#draw(this.#cells[this.#shown]); },
      End: () => { end(1); this.#draw(this.#cells[this.#shown]); },
      c: () => this.#copy(),
      s: () => byId("download").click(),
    }[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }

  #command(cell) {
    const url = new URL(`${this.#path}?${cell.query}`, document.baseURI);
    return `curl -X POST ${quoted(url.href)} -o ${quoted(fileName(cell))}`;
  }

  async #copy() {
    const done = await copy(byId("command").textContent, byId("command"));
    byId("curl").textContent = done ? "Copied" : "Selected: copy it";
  }
}

export const fileName = ({ className, alpha, seed }) => `${className}-alpha${alpha}-seed${seed}.png`.replace(/[^\w.-]+/g, "_");

/** Calls `act` with -1 or 1 when a finger moves right or left over `area`. */
function swiped(area, act) {
  let begun;
  area.addEventListener("touchstart", ({ touches }) => { begun = touches.length === 1 ? touches[0].clientX : undefined; }, { passive: true });
  area.addEventListener("touchend", ({ changedTouches: [touch] }) => {
    const moved = touch.clientX - begun;
    if (Math.abs(moved) > 40) act(moved > 0 ? -1 : 1);
  });
}
