// Single keys, where no text is typed, and the list that `?` shows.

import { byId, element } from "./text.js";

/** Keys that the browser, the board or the viewer know by themselves. */
const ELSEWHERE = [
  ["← → ↑ ↓", "From image to image"],
  ["Enter", "Enlarge an image"],
  ["C, S", "In the viewer: copy as curl, save"],
  ["Esc", "Stop, or close what is open"],
];

/** `actions` are `[key, name, what it does]`; `stop` answers Escape. */
export function listen(actions, stop) {
  const dialog = byId("keys");
  const open = () => dialog.showModal();
  const all = [...actions, ["?", "This list", open]];
  const rows = [...all.map(([key, name]) => [key.toUpperCase(), name]), ...ELSEWHERE];
  byId("key-list").replaceChildren(...rows.map(([key, name]) => (
    element("div", {}, element("dt", {}, ...key.split(/,? /).map((textContent) => element("kbd", { textContent }))), element("dd", { textContent: name })))));
  byId("help").addEventListener("click", open);
  byId("close-keys").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") stop();
    else if (!isTyping(event.target)) {
      const found = all.find(([key]) => key === event.key.toLowerCase());
      if (!found) return;
      event.preventDefault();
      found[2]();
    }
  });
}

const isTyping = (target) => target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");
