// All images in one file: as they are, or as a table with headings.

import { isSmall } from "./board.js";

/** Pixels between images: as in the server's own sheets. */
const GAP = 2;
/** Room of an image in a table, in pixels. */
const ROOM = 112;

/** A PNG of the cells that have an image. */
export function sheet(plan, shape) {
  const canvas = plan.columns ? table(plan, shape) : square(plan, shape);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** Every image pixel by pixel, as square as can be. */
function square({ cells }, { width, height }) {
  const pictures = cells.filter((cell) => cell.picture).map((cell) => cell.picture);
  const columns = Math.ceil(Math.sqrt(pictures.length));
  const rows = Math.ceil(pictures.length / columns);
  const [canvas, context] = paper(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP);
  pictures.forEach((picture, index) => {
    context.drawImage(picture, (index % columns) * (width + GAP), Math.floor(index / columns) * (height + GAP));
  });
  return canvas;
}

/** Large enough for readable headings; small images by a whole factor. */
function table({ cells, rows, columns }, shape) {
  const scale = isSmall(shape) ? Math.max(1, Math.round(ROOM / shape.width)) : 1;
  const [width, height, gap] = [shape.width * scale, shape.height * scale, 6];
  const size = Math.max(12, Math.round(width / 8));
  const font = `${size}px system-ui, sans-serif`;
  const measure = document.createElement("canvas").getContext("2d");
  measure.font = font;
  const left = Math.ceil(Math.max(...rows.map((text) => measure.measureText(text).width))) + 2 * size;
  const top = 2 * size + gap;
  const [canvas, context] = paper(left + columns.length * (width + gap), top + rows.length * (height + gap));
  Object.assign(context, { font, fillStyle: "#23211d", textBaseline: "middle", imageSmoothingEnabled: false });
  rows.forEach((text, row) => context.fillText(text, size, top + row * (height + gap) + height / 2));
  context.fillText("alpha", size, top / 2);
  context.textAlign = "center";
  columns.forEach((text, column) => context.fillText(text, left + column * (width + gap) + width / 2, top / 2));
  cells.forEach(({ picture }, index) => {
    const [row, column] = [Math.floor(index / columns.length), index % columns.length];
    if (picture) context.drawImage(picture, left + column * (width + gap), top + row * (height + gap), width, height);
  });
  return canvas;
}

function paper(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  return [canvas, context];
}
