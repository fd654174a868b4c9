// The reference: every route of /openapi.json in words, each with a form to try it.

import { form } from "./tryout.js";
import { parameters, responses, schema } from "./describe.js";
import { byId, element } from "./text.js";

/** What the groups of routes are called here, in this order; others follow by their own name. */
const GROUPS = { images: "Images", server: "The server", page: "The page" };

async function start() {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`GET /openapi.json answers ${response.status}`);
  const api = whole(await response.json());
  byId("title").textContent = `${api.info.title} ${api.info.version}`;
  byId("description").textContent = api.info.description;
  const groups = grouped(api);
  byId("routes").replaceChildren(...groups.map(([name, operations]) => (
    element("section", {}, element("h2", { textContent: name }), ...operations.map((operation) => route(operation, api))))));
  byId("contents").replaceChildren(...groups.map(([name, operations]) => (
    element("div", {}, element("h2", { textContent: name }), element("ul", {}, ...operations.map(entry))))));
  byId("contents").append(element("div", {}, element("h2", { textContent: "Shapes" }), element("ul", {}, ...Object.keys(api.components.schemas).map((name) => (
    element("li", {}, element("a", { href: `#${name}`, textContent: name })))))));
  byId("routes").append(shapes(api));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

/** The description with everything in place that it only points to, but for the shapes, which have names of their own. */
function whole(api) {
  const filled = (part) => {
    if (Array.isArray(part)) return part.map(filled);
    if (part === null || typeof part !== "object") return part;
    if (typeof part.$ref === "string" && !part.$ref.startsWith("#/components/schemas/")) return filled(found(api, part.$ref));
    return Object.fromEntries(Object.entries(part).map(([name, inner]) => [name, filled(inner)]));
  };
  return filled(api);
}

/** What a pointer such as `#/paths/~1generate/post` points to. */
function found(api, pointer) {
  const names = pointer.slice(2).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  return names.reduce((part, name) => part?.[name], api);
}

/** `[name, operations]` of each group. */
function grouped({ paths }) {
  const operations = Object.entries(paths).flatMap(([path, methods]) => (
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation, id: `${method}${path.replaceAll(/[^\w.]+/g, "-")}` }))));
  const tags = operations.map(({ operation }) => operation.tags?.[0] ?? "server");
  const order = [...new Set([...Object.keys(GROUPS).slice(0, 1), ...tags.filter((tag) => tag !== "page"), "page"])];
  const all = order.map((tag) => [GROUPS[tag] ?? tag, operations.filter((_, index) => tags[index] === tag)]);
  return all.filter(([, found]) => found.length > 0);
}

const badge = (method) => element("span", { className: `method ${method}`, textContent: method.toUpperCase() });

const entry = ({ path, method, id }) => element("li", {}, element("a", { href: `#${id}` }, badge(method), path));

function route({ path, method, operation, id }, api) {
  const isPage = operation.tags?.[0] === "page";
  return element(
    "article",
    { id },
    element("h3", {}, badge(method), element("code", { textContent: path })),
    element("p", { textContent: operation.description ?? operation.summary }),
    ...parameters(operation, api),
    ...(isPage ? [] : [form({ path, method, operation }, api)]),
    ...responses(operation, api),
  );
}

function shapes({ components }) {
  const all = Object.entries(components.schemas).map(([name, shape]) => (
    element("article", { id: name }, element("h3", {}, element("code", { textContent: name })), ...(shape.description ? [element("p", { textContent: shape.description })] : []), schema(shape))));
  return element("section", {}, element("h2", { textContent: "Shapes" }), ...all);
}

start().catch((error) => {
  byId("routes").replaceChildren(element("p", { role: "alert", textContent: `The reference cannot be shown: ${error.message}.` }));
});
