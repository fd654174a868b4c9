// From settings to what is asked for: a list of images, or a table of them.

import { EVERY } from "./classes.js";
import { MAX_SEED, number } from "./text.js";

/** Images of one plan. */
export const MOST_CELLS = 1024;

/**
 * @typedef {object} Cell One image: what it is asked for with and, once it came, what came.
 * @property {URLSearchParams} query
 * @property {string} className
 * @property {string} alpha
 * @property {string} seed
 * @property {string} label What tells it from the others of its plan.
 */

/** The cells of `settings`, row by row; `rows` and `columns` are the headings of a table, or absent. */
export function plan(settings, names) {
  switch (settings.mode) {
    case "images": return list(settings, names);
    case "sweep": {
      const seeds = Array.from({ length: Number(settings.count) }, (_, index) => seedAt(settings.seed, index));
      return table(seeds.map((seed) => ({ heading: seed, id: settings.classes[0], seed })), settings, names);
    }
    default:
      return table(settings.classes.map((id) => ({ heading: names[id], id, seed: settings.seed })), settings, names);
  }
}

function list({ classes: [chosen], alpha, seed: first, count }, names) {
  const cells = Array.from({ length: Number(count) }, (_, index) => {
    const id = chosen === EVERY ? String(index % names.length) : chosen;
    const seed = seedAt(first, index);
    return cell(id, alpha, seed, names, chosen === EVERY ? names[id] : seed);
  });
  return { cells };
}

function table(rows, { from, to, steps }, names) {
  const columns = alphas(Number(from), Number(to), Number(steps));
  const cells = rows.flatMap(({ id, seed }) => columns.map((alpha) => cell(id, alpha, seed, names, "")));
  return { cells, rows: rows.map(({ heading }) => heading), columns };
}

/** Evenly spaced, both ends included, each once. */
function alphas(from, to, steps) {
  const at = (index) => from + ((to - from) * index) / (steps - 1);
  const all = Array.from({ length: steps }, (_, index) => number(Math.round(at(index) * 100) / 100));
  return [...new Set(all)];
}

const seedAt = (first, index) => String((BigInt(first) + BigInt(index)) & MAX_SEED);

function cell(id, alpha, seed, names, label) {
  return { query: new URLSearchParams({ class: id, alpha, seed }), className: names[id], alpha, seed, label };
}
