// A form that sends a route's request, shows it as curl and shows what comes back.

import { copy, element, milliseconds, quoted } from "./text.js";

/** Classes that are offered while a class is typed. */
const MOST = 200;

/** What is filled in at first, where a parameter has no default. */
const FIRST = { class: "0", seed: "7" };

/** The form of one operation. */
export function form({ path, method, operation }) {
  const fields = (operation.parameters ?? []).filter(({ in: place }) => place !== "header").map(field);
  const body = operation.requestBody && fields.every(({ place }) => place === "path") ? text(operation.requestBody) : undefined;
  const command = element("pre", { tabIndex: 0, ariaLabel: "The request as curl" });
  const send = element("button", { type: "submit", className: "plain send", textContent: "Send" });
  const copies = element("button", { type: "button", className: "plain", textContent: "Copy as curl" });
  const answer = element("div", { className: "answer" });
  answer.setAttribute("aria-live", "polite");
  const inputs = element("div", { className: "inputs" }, ...fields.map(({ label }) => label));
  const whole = element("form", { autocomplete: "off" }, inputs, ...(body ? [body] : []), command, element("div", { className: "buttons" }, send, copies), answer);
  const url = () => address(path, operation, fields);
  const show = () => { command.textContent = curl(url(), method, body?.value, fields); };
  whole.addEventListener("input", show);
  whole.addEventListener("submit", (event) => {
    event.preventDefault();
    answered(answer, send, url(), { method: method.toUpperCase(), ...(body?.value && { body: body.value, headers: { "content-type": "application/json" } }) });
  });
  copies.addEventListener("click", async () => {
    copies.textContent = (await copy(command.textContent, command)) ? "Copied" : "Selected: copy it";
    setTimeout(() => { copies.textContent = "Copy as curl"; }, 1500);
  });
  if (fields.some(({ name }) => name === "class")) suggest(fields, show);
  show();
  return element("details", { className: "try", open: path === "/generate" }, element("summary", { textContent: "Try it" }), whole);
}

function field({ name, in: place, required, schema: shape = {} }) {
  const input = shape.enum
    ? element("select", {}, new Option("any", ""), ...shape.enum.map((value) => new Option(value)))
    : element("input", { placeholder: shape.default === undefined ? "" : String(shape.default), spellcheck: false });
  if (/^(integer|number)$/.test(shape.type)) input.inputMode = "decimal";
  input.name = name;
  input.required = required;
  input.value = FIRST[name] ?? "";
  return { name, place, input, label: element("label", {}, name, input) };
}

function text({ content }) {
  const { schema: shape, example } = content["application/json"] ?? {};
  const given = example ?? shape?.example;
  return element("textarea", { rows: 8, spellcheck: false, ariaLabel: "Body", value: given === undefined ? "" : JSON.stringify(given, null, 2) });
}

/** Names of the classes, and the bounds of alpha, from the model that is served. */
async function suggest(fields, show) {
  const info = await fetch("info").then((response) => (response.ok ? response.json() : undefined), () => undefined);
  if (!info) return;
  const { classes, alpha } = info.model.manifest;
  const list = element("datalist", { id: "class-names" }, ...classes.slice(0, MOST).map((name, id) => new Option(name, id)));
  for (const { name, input } of fields) {
    if (name === "class") {
      input.after(list);
      input.setAttribute("list", list.id);
    }
    if (name === "alpha") input.placeholder = `${alpha.default} (${alpha.min} to ${alpha.max})`;
  }
  show();
}

/** Relative to this document, as the server may lie behind a path. */
function address(path, operation, fields) {
  const given = (place) => fields.filter((one) => one.place === place && one.input.value !== "");
  let filled = path.slice(1);
  for (const { name, input } of given("path")) filled = filled.replace(`{${name}}`, encodeURIComponent(input.value));
  const query = new URLSearchParams(given("query").map(({ name, input }) => [name, input.value]));
  return new URL(filled + (query.size > 0 ? `?${query}` : ""), document.baseURI);
}

/** The request in a shell. An image goes into a file of its format. */
function curl(url, method, body, fields) {
  const format = fields.find(({ name }) => name === "format")?.input.value || "png";
  const file = url.pathname.endsWith("/generate") && format !== "json" ? [`-o image.${format}`] : [];
  const content = body ? [`--json ${quoted(body)}`] : [];
  const verb = method === "get" || body ? [] : [`-X ${method.toUpperCase()}`];
  return ["curl", ...verb, quoted(url.href), ...content, ...file].join(" ");
}

async function answered(answer, send, url, options) {
  send.disabled = true;
  const begun = performance.now();
  try {
    const response = await fetch(url, options);
    const blob = await response.blob();
    answer.replaceChildren(head(response, performance.now() - begun, blob.size), ...(await content(response, blob)));
  } catch {
    answer.replaceChildren(element("p", { className: "status s5", textContent: "The server does not answer." }));
  } finally {
    send.disabled = false;
  }
}

function head(response, ms, size) {
  const { status, statusText, headers } = response;
  const told = [`${milliseconds(ms)}`, `${size} bytes`, headers.get("content-type")].filter(Boolean).join(" · ");
  const rows = [...headers].map(([name, value]) => `${name}: ${value}`).join("\n");
  return element(
    "div",
    {},
    element("p", {}, element("span", { className: `status s${String(status)[0]}`, textContent: `${status} ${statusText}` }), ` ${told}`),
    element("details", {}, element("summary", { textContent: "Headers" }), element("pre", { textContent: rows })),
  );
}

async function content(response, blob) {
  const kind = response.headers.get("content-type") ?? "";
  if (kind.startsWith("image/")) {
    const image = element("img", { src: URL.createObjectURL(blob), alt: "The image that the server answered with" });
    await image.decode().catch(() => {});
    // Small images by a whole factor, so that their pixels can be seen.
    const factor = Math.max(1, Math.floor(280 / Math.max(image.naturalWidth, image.naturalHeight, 1)));
    image.width = image.naturalWidth * factor;
    image.className = factor > 1 ? "pixels" : "";
    return [image];
  }
  if (!/json|text|xml/.test(kind)) return [];
  const text = await blob.text();
  const shown = kind.includes("json") ? pretty(text) : text;
  return [element("pre", { tabIndex: 0, textContent: shown.length > 20_000 ? `${shown.slice(0, 20_000)}\n…` : shown })];
}

/** JSON with indents; texts such as images in base64 are cut. */
function pretty(text) {
  try {
    const cut = (_, value) => (typeof value === "string" && value.length > 200 ? `${value.slice(0, 80)}… (${value.length} characters)` : value);
    return JSON.stringify(JSON.parse(text, cut), null, 2);
  } catch {
    return text;
  }
}
