// The picture of an empty page: noise on the left that drifts into order on the right.

const SVG = "http://www.w3.org/2000/svg";

export function drawDots(group) {
  for (let column = 0; column < 15; column += 1) {
    for (let row = 0; row < 6; row += 1) {
      const disorder = Math.max(0, 1 - column / 9) * 7;
      const wobble = (k) => Math.sin(column * 12.9 + row * 78.2 + k * 37.7) * disorder;
      const dot = document.createElementNS(SVG, "circle");
      const at = { cx: 6 + column * 7.7 + wobble(1), cy: 10 + row * 8 + wobble(2), r: 1.7, opacity: 0.25 + column * 0.045 };
      for (const [name, value] of Object.entries(at)) dot.setAttribute(name, value);
      group.append(dot);
    }
  }
}
