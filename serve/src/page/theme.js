// Light, dark, or what the system says; before anything is drawn, so that nothing flashes.
"use strict";

const theme = {
  names: { auto: "Auto", light: "Light", dark: "Dark" },

  /** What was chosen; "auto" too where the browser keeps nothing. */
  chosen() {
    try {
      const kept = localStorage.getItem("drifting-theme");
      return kept in this.names ? kept : "auto";
    } catch {
      return document.documentElement.dataset.theme ?? "auto";
    }
  },

  apply(name) {
    document.documentElement.dataset.theme = name;
    try {
      localStorage.setItem("drifting-theme", name);
    } catch { /* It holds until the page is left. */ }
  },

  /** Makes `button` go through the themes. */
  offer(button) {
    const show = () => {
      button.textContent = `${this.names[this.chosen()]} theme`;
    };
    button.addEventListener("click", () => {
      const names = Object.keys(this.names);
      this.apply(names[(names.indexOf(this.chosen()) + 1) % names.length]);
      show();
    });
    show();
  },
};

document.documentElement.dataset.theme = theme.chosen();
document.addEventListener("DOMContentLoaded", () => theme.offer(document.getElementById("theme")));
