// OpenAPI in words and tables.

import { element } from "./text.js";

/** A table; cells are texts or nodes. */
function table(headings, rows) {
  const cells = (tag, texts) => texts.map((text) => element(tag, {}, text));
  const head = element("thead", {}, element("tr", {}, ...cells("th", headings)));
  const whole = element("table", {}, head, element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row)))));
  return element("div", { className: "scroll" }, whole);
}

/** Text in which `code` is marked as in Markdown. */
export function prose(text = "") {
  const parts = text.split("`").map((part, index) => (index % 2 ? element("code", { textContent: part }) : part));
  return element("span", {}, ...parts);
}

/** A type with its bounds: "integer, from 0", "one of png, jpeg". */
export function typed(shape = {}) {
  if (shape.$ref) return reference(shape.$ref);
  if (shape.oneOf ?? shape.anyOf) {
    const kinds = (shape.oneOf ?? shape.anyOf).map(typed);
    return element("span", {}, ...kinds.flatMap((kind, index) => (index ? [" or ", kind] : [kind])));
  }
  if (shape.const !== undefined) return `always ${JSON.stringify(shape.const)}`;
  if (shape.enum) return `one of ${shape.enum.join(", ")}`;
  if (shape.type === "array") return element("span", {}, "array of ", typed(shape.items));
  const kind = [shape.type].flat().join(" or ") || "anything";
  return [kind, shape.format && `(${shape.format})`, bounds(shape)].filter(Boolean).join(" ");
}

function bounds({ minimum, maximum, maxLength }) {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${plainly(maximum)}`;
  if (minimum !== undefined) return `from ${minimum}`;
  if (maximum !== undefined) return `up to ${plainly(maximum)}`;
  return maxLength === undefined ? "" : `of up to ${maxLength} characters`;
}

/** The largest seed is no number of JavaScript's. */
const plainly = (value) => (value >= 2 ** 64 ? "2⁶⁴ − 1" : String(value));

function reference(target) {
  const name = target.split("/").at(-1);
  return element("a", { href: `#${name}`, textContent: name });
}

/** Where parameters can be given, and what they may be. */
export function parameters(operation) {
  const rows = (operation.parameters ?? []).map(({ name, in: place, required, description, schema: shape }) => (
    [element("code", { textContent: name }), place, typed(shape), usual(shape, required), prose(description)]));
  const body = operation.requestBody;
  const told = rows.length > 0 ? [element("h4", { textContent: "Parameters" }), table(["name", "in", "type", "default", ""], rows)] : [];
  if (!body) return told;
  const [[kind, { schema: shape }]] = Object.entries(body.content);
  const inner = element("details", {}, element("summary", {}, "Body ", element("code", { textContent: kind })), element("p", {}, prose(body.description)), schema(shape));
  return [...told, inner];
}

function usual(shape, required) {
  if (required) return "required";
  return shape?.default === undefined ? "" : String(shape.default);
}

/** The fields of an object, or a type alone. */
export function schema(shape) {
  const inner = shape.type === "array" && shape.items.properties ? shape.items : shape;
  if (!inner.properties) return element("p", {}, typed(shape));
  const required = new Set(inner.required ?? []);
  const rows = fields(inner, required, "");
  return table(["field", "type", "", ""], rows);
}

/** Rows of an object's fields, those of objects within it behind a dot. */
function fields(shape, required, prefix) {
  return Object.entries(shape.properties).flatMap(([name, field]) => {
    const own = [element("code", { textContent: prefix + name }), typed(field), required.has(name) ? "" : "may be absent", prose(field.description)];
    const [inner, mark] = field.type === "array" ? [field.items, "[]."] : [field, "."];
    return [own, ...(inner?.properties ? fields(inner, new Set(inner.required ?? []), prefix + name + mark) : [])];
  });
}

/** Every status with its meaning, types and headers. */
export function responses({ responses: all }) {
  const rows = Object.entries(all).map(([status, { description, content = {} }]) => {
    const kinds = Object.entries(content).flatMap(([kind, { schema: shape }], index) => {
      const name = element("code", { textContent: kind });
      return [...(index ? [element("br")] : []), name, ...(shape?.$ref ? [" ", typed(shape)] : [])];
    });
    return [element("span", { className: `status s${status[0]}`, textContent: status }), prose(description), element("span", {}, ...kinds)];
  });
  const headers = Object.entries(all).flatMap(([status, { headers: named = {} }]) => (
    Object.entries(named).map(([name, { description, schema: shape }]) => [element("code", { textContent: name }), status, typed(shape), prose(description)])));
  const told = [element("h4", { textContent: "Answers" }), table(["status", "", "type"], rows)];
  if (headers.length > 0) {
    told.push(element("details", {}, element("summary", { textContent: "Headers of the answers" }), table(["header", "status", "type", ""], headers)));
  }
  return told;
}
