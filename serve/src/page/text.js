// Small things that several parts of the page need.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Four decimals at most, without zeros at the end. */
export const number = (value) => String(Number(value.toFixed(4)));

export function milliseconds(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

export const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Largest seed. */
export const MAX_SEED = (1n << 64n) - 1n;

/** 32 bits are enough to choose from, and short enough to be told. */
export const drawSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

/** `text` as one word of a shell. */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Offers `blob` as a file. */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Copies `text`; where the browser forbids it, selects `shown`, which holds it. Returns whether it was copied. */
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return false;
  }
}
