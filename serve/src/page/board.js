// The images on the page: a grid, or a table with headings. Arrow keys go from one to the next.

import { byId, element } from "./text.js";

/** Longest side of an image that is shown with visible pixels. */
const SMALL = 96;

const board = byId("board");

/** Whole multiples of small images, so that all their pixels are equally large. `room` is in CSS pixels. */
export function fitted({ width, height }, room) {
  const scale = Math.min(room / width, room / height);
  if (Math.max(width, height) > SMALL) return Math.round(width * scale);
  return width * Math.max(1, Math.floor(scale));
}

export const isSmall = ({ width, height }) => Math.max(width, height) <= SMALL;

export class Board {
  #plan = { cells: [] };
  #shape = { width: 1, height: 1 };

  /** `open` is called with the index of a cell that is clicked, `again` if that cell failed. */
  constructor(open, again) {
    board.addEventListener("click", ({ target }) => {
      const tile = target.closest(".tile");
      if (!tile) return;
      if (tile.classList.contains("failed")) again();
      else open(this.#index(tile));
    });
    board.addEventListener("keydown", (event) => this.#key(event));
    // Only one image is a stop of the tabulator.
    board.addEventListener("focusin", ({ target }) => {
      for (const { tile } of this.#plan.cells) tile.tabIndex = tile === target ? 0 : -1;
    });
    new ResizeObserver(() => this.#fit()).observe(board);
  }

  /** Empty frames for `plan`, whose images have `shape`. */
  draw(plan, shape) {
    this.#plan = plan;
    this.#shape = shape;
    for (const cell of plan.cells) cell.tile = tile(cell);
    plan.cells[0].tile.tabIndex = 0;
    board.className = isSmall(shape) ? "pixels" : "";
    this.#fit();
    board.replaceChildren(plan.columns ? table(plan) : element("div", { className: "grid" }, ...plan.cells.map(({ tile }) => tile)));
  }

  /** Puts the image of `cell` into its frame. */
  show({ tile, picture }) {
    tile.firstChild.append(picture);
    tile.classList.remove("empty", "failed");
    tile.ariaDisabled = null;
    tile.ariaLabel = picture.alt;
  }

  /** Frames that stay empty. */
  fail(cells) {
    for (const { tile } of cells) {
      tile.classList.replace("empty", "failed");
      tile.ariaDisabled = null;
      tile.ariaLabel = "No image; try again";
    }
  }

  /** Frames that are waited for again. */
  wait(cells) {
    for (const { tile } of cells) {
      tile.classList.replace("failed", "empty");
      tile.ariaDisabled = "true";
    }
  }

  #index(tile) {
    return this.#plan.cells.findIndex((cell) => cell.tile === tile);
  }

  #fit() {
    const { rows, columns } = this.#plan;
    const room = board.clientWidth;
    const gap = 8;
    const small = isSmall(this.#shape);
    const [most, inRow] = small ? [145, 3] : [210, 2];
    let wanted = room < 460 ? (room - (inRow - 1) * 3) / inRow : most;
    if (columns) {
      const heading = Math.min(120, room / 4);
      const across = (room - heading) / columns.length - gap;
      const down = (innerHeight - 220) / rows.length - gap;
      wanted = Math.max(48, Math.min(wanted, across, Math.max(down, small ? 56 : 112)));
    }
    board.style.setProperty("--tile", `${fitted(this.#shape, Math.max(28, wanted))}px`);
    board.style.setProperty("--ratio", `${this.#shape.width} / ${this.#shape.height}`);
  }

  #key(event) {
    const tiles = this.#plan.cells.map((cell) => cell.tile);
    const here = tiles.indexOf(event.target);
    if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const places = tiles.map((tile) => tile.getBoundingClientRect());
    const { left, top } = places[here];
    const inRow = (row) => places.findIndex((place) => place.top === row && Math.abs(place.left - left) < place.width / 2);
    const next = {
      ArrowLeft: () => here - 1,
      ArrowRight: () => here + 1,
      ArrowUp: () => inRow(Math.max(...places.map((place) => place.top).filter((row) => row < top))),
      ArrowDown: () => inRow(Math.min(...places.map((place) => place.top).filter((row) => row > top))),
      Home: () => 0,
      End: () => tiles.length - 1,
    }[event.key]?.();
    if (next === undefined) return;
    event.preventDefault();
    tiles[next]?.focus();
  }
}

function tile({ label }) {
  const frame = element("span", { className: "frame" });
  const caption = label ? [element("span", { className: "caption", textContent: label })] : [];
  const button = element("button", { type: "button", className: "tile empty", tabIndex: -1, ariaDisabled: "true" }, frame, ...caption);
  button.ariaLabel = "Not there yet";
  return button;
}

function table({ rows, columns, cells }) {
  const heading = (textContent, scope) => element("th", { textContent, scope });
  const head = element("tr", {}, element("td", { textContent: "alpha", className: "quiet small" }), ...columns.map((alpha) => heading(alpha, "col")));
  const body = rows.map((name, row) => {
    const own = cells.slice(row * columns.length, (row + 1) * columns.length);
    return element("tr", {}, heading(name, "row"), ...own.map(({ tile }) => element("td", {}, tile)));
  });
  const whole = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { className: "scroll" }, whole);
}
