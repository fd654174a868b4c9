// Clicks and types through the page as a person would. The server has ten classes of 8 x 8 images, alpha from 1 to 4.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { Visit, address, launch, refusal, shell, size } from "./browser.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** A visit that ends without faults of a script, whatever happens in it. */
const visiting = (name, path, options, steps) => test(name, { timeout: 60_000 }, async () => {
  const visit = await Visit.open(browser, path, options);
  await steps(visit);
  await visit.close();
});

visiting("a class found by its name gives as many images as were asked for", "", {}, async (visit) => {
  await visit.picture("start");
  await visit.page.type("#class-search", "sneak");
  assert.deepEqual(await visit.texts("#class-list label"), ["Sneaker"]);
  await visit.press("Enter");
  assert.equal((await visit.texts("#class-list label")).length, 11);
  await visit.fill("#count", "13");
  await visit.generate();
  const frames = await visit.frames();
  assert.equal(frames.length, 13);
  for (const frame of frames) {
    assert.match(frame.alt, /^Sneaker, alpha 1\.5, seed \d+$/);
    assert.equal(frame.width, 8);
    assert.equal(frame.shown % 8, 0, "pixels are equally large");
  }
  assert.equal(new Set(frames.map(({ alt }) => alt)).size, 13, "each has a seed of its own");
  for (const part of ["first", "all", "queue", "compute"]) assert.match(await visit.text(`#latency-${part}`), /^[\d.]+ m?s$/);
  assert.equal(await visit.text("#status"), "13 images");
  const kept = new URLSearchParams(new URL(visit.page.url()).hash.slice(1));
  assert.deepEqual([kept.get("class"), kept.get("alpha"), kept.get("count")], ["7", "1.5", "13"]);
  await visit.picture("images");
});

visiting("classes are found by number too, and what is not there is said", "", {}, async (visit) => {
  await visit.page.type("#class-search", "3");
  assert.deepEqual(await visit.texts("#class-list label"), ["Dress"]);
  await visit.fill("#class-search", "teapot");
  assert.equal(await visit.text("#class-list"), "No class is called that.");
  await visit.press("Escape");
  assert.equal((await visit.texts("#class-list label")).length, 11);
});

visiting("a seed is drawn for each run, and kept once it is locked", "", {}, async (visit) => {
  await visit.fill("#count", "1");
  const seeds = [];
  for (let run = 0; run < 4; run += 1) {
    if (run === 2) await visit.click("#lock");
    await visit.generate();
    seeds.push(await visit.value("#seed"));
  }
  assert.notEqual(seeds[0], seeds[1]);
  assert.deepEqual([seeds[2], seeds[3]], [seeds[1], seeds[1]]);
  await visit.click("#dice");
  assert.notEqual(await visit.value("#seed"), seeds[3]);
});

visiting("an image is enlarged, stepped through and closed", "#seed=100&count=5", {}, async (visit) => {
  await visit.generate();
  await visit.click("#board .tile:nth-child(2)");
  assert.equal(await visit.text("#viewer-place"), "2 of 5");
  assert.match(await visit.text("#facts"), /Alpha1\.5Seed101Request.*Queue.*Engine.*Batch\d/);
  assert.equal((await visit.page.$eval("#large", (image) => image.getBoundingClientRect().width)) % 8, 0);
  await visit.picture("viewer");
  await visit.press("ArrowRight");
  assert.equal(await visit.text("#viewer-place"), "3 of 5");
  await visit.click("#previous");
  await visit.click("#previous");
  assert.equal(await visit.text("#viewer-place"), "1 of 5");
  assert.equal(await visit.page.$eval("#previous", (button) => button.disabled), true);
  await visit.press("End");
  assert.equal(await visit.text("#viewer-place"), "5 of 5");
  await visit.press("Escape");
  assert.equal(await visit.page.$eval("#viewer", (dialog) => dialog.open), false);
  // The dialog first gives the focus back to where it was; what is told of its end then moves it.
  await visit.until(() => /seed 104$/.test(document.activeElement.ariaLabel));
});

visiting("the copied curl gives the bytes that are downloaded", "#class=8&alpha=2.25&seed=18446744073709551615&count=1", {}, async (visit) => {
  await visit.allowCopying();
  const saved = await visit.downloads();
  await visit.generate();
  await visit.click("#board .tile");
  await visit.click("#download");
  const { name, bytes } = await saved();
  assert.equal(name, "Bag-alpha2.25-seed18446744073709551615.png");
  await visit.click("#curl");
  await visit.until(() => document.getElementById("curl").textContent === "Copied");
  const command = await visit.copied();
  assert.equal(command, await visit.text("#command"));
  const files = shell(command);
  assert.deepEqual(files.map((file) => file.name), [name]);
  assert.ok(files[0].bytes.equals(bytes));
});

visiting("what may not be copied is selected", "#count=1", {
  prepare: (page) => page.evaluateOnNewDocument(() => Object.defineProperty(navigator, "clipboard", { value: undefined })),
}, async (visit) => {
  await visit.generate();
  await visit.click("#board .tile");
  await visit.click("#curl");
  await visit.until(() => document.getElementById("curl").textContent === "Selected: copy it");
  assert.equal(await visit.page.evaluate(() => getSelection().toString()), await visit.text("#command"));
});

visiting("all images come in one sheet", "#count=5", {}, async (visit) => {
  const saved = await visit.downloads();
  assert.equal(await visit.page.$eval("#sheet", (button) => button.disabled), true);
  await visit.generate();
  await visit.click("#sheet");
  const { name, bytes } = await saved();
  assert.match(name, /^fixture-images-seed\d+\.png$/);
  assert.deepEqual(size(bytes), [3 * 8 + 2 * 2, 2 * 8 + 2]);
});

visiting("an alpha sweep is a strip over the range, a row for each seed", "#seed=40", {}, async (visit) => {
  await visit.click("input[value=sweep]");
  await visit.fill("#count", "2");
  await visit.fill("#steps", "4");
  await visit.generate();
  assert.deepEqual(await visit.texts("#board thead th"), ["1", "2", "3", "4"]);
  assert.deepEqual(await visit.texts("#board tbody th"), ["40", "41"]);
  const expected = ["40", "41"].flatMap((seed) => ["1", "2", "3", "4"].map((alpha) => `T-shirt, alpha ${alpha}, seed ${seed}`));
  assert.deepEqual((await visit.frames()).map(({ alt }) => alt), expected);
  await visit.picture("sweep");
});

visiting("an image's alpha is swept from the viewer", "#class=4&seed=40&count=3", {}, async (visit) => {
  await visit.generate();
  await visit.click("#board .tile:nth-child(3)");
  await visit.click("#sweep-this");
  await visit.settled();
  assert.deepEqual(await visit.texts("#board tbody th"), ["42"]);
  assert.equal((await visit.frames())[6].alt, "Coat, alpha 4, seed 42");
});

visiting("a class sheet has a row for each class, and headings in its file", "#seed=9", {}, async (visit) => {
  const saved = await visit.downloads();
  await visit.click("input[value=sheet]");
  assert.equal(await visit.text("#class-note"), "10 of 10");
  await visit.click("#class-list label:nth-child(1)");
  assert.equal(await visit.text("#class-note"), "9 of 10");
  await visit.click("#class-turn");
  await visit.click("#generate");
  assert.equal(await visit.text("#problem-text"), "Choose a class first.");
  await visit.click("#class-turn");
  await visit.click("#class-list label:nth-child(1)");
  await visit.fill("#from", "2");
  await visit.fill("#steps", "3");
  await visit.generate();
  assert.deepEqual(await visit.texts("#board thead th"), ["2", "3", "4"]);
  const rows = await visit.texts("#board tbody th");
  assert.deepEqual([rows.length, rows[0], rows[8]], [9, "Trouser", "Boot"]);
  const frames = await visit.frames();
  assert.deepEqual([frames.length, frames[4].alt], [27, "Pullover, alpha 3, seed 9"]);
  await visit.picture("sheet");
  await visit.press("d");
  const { name, bytes } = await saved();
  assert.equal(name, "fixture-sheet-seed9.png");
  const [width, height] = size(bytes);
  assert.ok(width > 3 * 112 + 3 * 6 && height > 9 * 112 + 9 * 6, `${width} x ${height}`);
});

visiting("history brings settings back, also after the page was left", "#class=3&alpha=3.2&seed=77&count=2", {}, async (visit) => {
  await visit.generate();
  await visit.page.goto(`${address}#mode=sheet&class=1,2&seed=5&steps=2`);
  await visit.page.reload();
  await visit.until(() => document.querySelectorAll("#class-list input:checked").length === 2);
  await visit.generate();
  assert.equal((await visit.frames()).length, 4);
  await visit.click("#open-past");
  assert.deepEqual(await visit.texts("#past-list b"), ["2 classes, alpha 1 to 4", "Dress"]);
  await visit.picture("history");
  await visit.click("#past-list li:nth-child(2) button");
  assert.equal(await visit.page.$eval("#class-list input:checked", (input) => input.value), "3");
  assert.deepEqual([await visit.text("#alpha-value"), await visit.value("#seed"), await visit.value("#count")], ["3.2", "77", "2"]);
  assert.equal(await visit.page.$eval("#lock", (lock) => lock.ariaPressed), "true");
  await visit.generate();
  assert.deepEqual((await visit.frames()).map(({ alt }) => alt), ["Dress, alpha 3.2, seed 77", "Dress, alpha 3.2, seed 78"]);
  await visit.click("#open-past");
  assert.deepEqual(await visit.texts("#past-list b"), ["Dress", "2 classes, alpha 1 to 4"], "the same settings are listed once");
  await visit.click("#forget");
  assert.deepEqual(await visit.texts("#past-list b"), []);
});

visiting("a browser that keeps nothing is no obstacle", "#count=2", {
  prepare: (page) => page.evaluateOnNewDocument(() => {
    Object.defineProperty(window, "localStorage", { get() { throw new DOMException("forbidden", "SecurityError"); } });
  }),
}, async (visit) => {
  await visit.click("#theme");
  assert.equal(await visit.text("#theme"), "Light theme");
  await visit.generate();
  await visit.click("#open-past");
  assert.equal((await visit.texts("#past-list b")).length, 1);
});

/** Whether what is behind everything is dark. */
const isDark = (visit) => visit.page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).slice(0, 3).every((part) => part < 60));

visiting("dark as the system has it, or as it is switched", "#count=12", {}, async (visit) => {
  assert.equal(await isDark(visit), false);
  await visit.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  assert.equal(await isDark(visit), true);
  await visit.generate();
  await visit.picture("dark");
  await visit.click("#theme");
  assert.deepEqual([await visit.text("#theme"), await isDark(visit)], ["Light theme", false]);
  await visit.click("#theme");
  await visit.page.emulateMediaFeatures([]);
  await visit.page.reload();
  assert.deepEqual([await visit.text("#theme"), await isDark(visit)], ["Dark theme", true]);
  await visit.page.goto(`${address}docs`);
  assert.equal(await isDark(visit), true);
});

visiting("a telephone shows everything in its width", "#count=7", {
  prepare: (page) => page.setViewport({ width: 375, height: 812, deviceScaleFactor: 2, isMobile: true, hasTouch: true }),
}, async (visit) => {
  await visit.fits();
  await visit.picture("phone-start");
  await visit.page.tap("#generate");
  await visit.settled();
  await visit.fits();
  const tops = await visit.page.$$eval("#board .tile", (tiles) => tiles.map((tile) => tile.getBoundingClientRect().top));
  assert.deepEqual(tops.map((top) => top === tops[0]), [true, true, true, false, false, false, false], "three in a row");
  assert.ok(tops[0] > 0 && tops[0] < 812, "the images are in sight");
  await visit.picture("phone");
  await visit.page.tap("#board .tile:nth-child(2)");
  await visit.fits();
  await visit.picture("phone-viewer");
  await visit.page.tap("#close");
  for (const mode of ["sweep", "sheet"]) {
    await visit.page.tap(`input[value=${mode}]`);
    await visit.page.tap("#generate");
    await visit.settled();
    await visit.fits();
    await visit.picture(`phone-${mode}`);
  }
  await visit.page.tap("#open-past");
  await visit.fits();
});

visiting("everything can be done with the keyboard", "#count=6", {}, async (visit) => {
  const focused = () => visit.page.evaluate(() => document.activeElement.id || document.activeElement.ariaLabel);
  await visit.press("?");
  assert.match(await visit.text("#key-list"), /GGenerate, or stop.*\/Search the classes/);
  await visit.picture("keys");
  await visit.press("Escape");
  await visit.press("/");
  assert.equal(await focused(), "class-search");
  // While text is typed, letters are letters.
  await visit.page.keyboard.type("bag");
  await visit.press("Enter");
  await visit.press("Tab");
  await visit.press("]");
  assert.equal(await visit.text("#alpha-value"), "1.55");
  await visit.press("l");
  const seed = await visit.value("#seed");
  await visit.press("g");
  await visit.settled();
  assert.equal(await visit.value("#seed"), seed);
  let stops = 0;
  while (!/^Bag/.test(await focused())) {
    await visit.press("Tab");
    stops += 1;
    assert.ok(stops < 30, "the images are among the stops");
  }
  const outline = await visit.page.evaluate(() => getComputedStyle(document.activeElement.firstChild).boxShadow);
  assert.notEqual(outline, "none", "where one is, is seen");
  for (const key of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "Home", "ArrowRight"]) await visit.press(key);
  assert.match(await focused(), new RegExp(`seed ${BigInt(seed) + 1n}$`));
  await visit.press("Enter");
  assert.equal(await visit.text("#viewer-place"), "2 of 6");
  await visit.press("Escape");
  for (const [key, mode] of [["2", "sweep"], ["3", "sheet"], ["1", "images"]]) {
    await visit.press(key);
    assert.equal(await visit.page.$eval("#controls", (form) => form.elements.mode.value), mode);
  }
  await visit.press("h");
  assert.equal(await visit.page.$eval("#past", (dialog) => dialog.open), true);
});

visiting("nothing moves while the page is built and images come", "", {
  prepare: (page) => page.evaluateOnNewDocument(() => {
    window.shifts = [];
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(({ value, sources }) => [value, ...sources.map(({ node }) => node?.id || node?.className)])))
      .observe({ type: "layout-shift", buffered: true });
  }),
}, async (visit) => {
  const still = async () => {
    const shifts = await visit.page.evaluate(() => window.shifts);
    assert.ok(shifts.reduce((sum, [value]) => sum + value, 0) < 0.01, JSON.stringify(shifts));
  };
  await still();
  await visit.fill("#count", "24");
  // What moves within half a second of a key is not counted: the form is sent by itself, later.
  await visit.page.evaluate(() => new Promise((resolve) => { setTimeout(resolve, 700); }));
  await visit.page.evaluate(() => document.getElementById("controls").requestSubmit());
  await visit.settled();
  await still();
});

visiting("who wants less motion gets none", "#count=3", {
  prepare: async (page) => {
    await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
    await Visit.answering((url) => (url.pathname.endsWith("/generate") ? refusal(429, "queue_full", "full", { "retry-after": "1" }) : undefined))(page);
  },
  faults: true,
}, async (visit) => {
  await visit.click("#generate");
  await visit.until(() => document.querySelectorAll("#board .tile.empty").length === 3);
  assert.equal(await visit.page.evaluate(() => document.getAnimations().length), 0);
  await visit.press("Escape");
  await visit.settled();
  assert.equal(await visit.text("#status"), "Stopped after 0 of 3");
});

test("a full queue is asked again when it says so, without a fuss", { timeout: 60_000 }, async () => {
  let refused = 0;
  const times = [];
  const prepare = Visit.answering((url) => {
    if (!url.pathname.endsWith("/generate")) return undefined;
    times.push(performance.now());
    refused += 1;
    return refused <= 3 ? refusal(429, "queue_full", "16 images wait already", { "retry-after": "2" }) : undefined;
  });
  const visit = await Visit.open(browser, "#count=9", { prepare, faults: true });
  await visit.click("#generate");
  await visit.until(() => document.getElementById("status").textContent.startsWith("The server is busy; trying again in 2 s"));
  await visit.settled();
  assert.equal((await visit.frames()).filter(Boolean).length, 9);
  assert.equal(times.length, 12, "each image was asked for until it came");
  assert.ok(times.at(-1) - times[0] >= 1950, "not before the time");
  assert.equal(await visit.visible("#problem"), false);
  await visit.close();
});

for (const [name, answer, told] of [
  ["a fault of the server", refusal(500, "engine_failed", "the images could not be made"), "Something went wrong in the server. Its log knows this request as 0123456789abcdef."],
  ["a server that shuts down", refusal(503, "draining", "the server is shutting down"), "The server is shutting down and takes no new images. It may be back in a moment."],
  ["a server that is gone", "lost", "The server does not answer. It may be starting again, or the connection is gone."],
]) {
  test(`${name} is told kindly, and another try makes what is missing`, { timeout: 60_000 }, async () => {
    let asked = 0;
    let broken = true;
    const prepare = Visit.answering((url) => {
      if (!url.pathname.endsWith("/generate")) return undefined;
      asked += 1;
      return broken && asked > 4 ? answer : undefined;
    });
    const visit = await Visit.open(browser, "#count=12&seed=1", { prepare, faults: true });
    await visit.generate();
    const came = (await visit.frames()).filter(Boolean).length;
    assert.ok(came > 0 && came < 12, `${came}`);
    assert.equal(await visit.text("#problem-text"), told);
    await visit.picture(`problem-${typeof answer === "string" ? answer : answer.status}`);
    [broken, asked] = [false, 0];
    await visit.click("#retry");
    await visit.settled();
    const frames = await visit.frames();
    assert.deepEqual(frames.map(({ alt }) => alt), Array.from({ length: 12 }, (_, index) => `T-shirt, alpha 1.5, seed ${index + 1}`));
    assert.equal(asked, 12 - came, "what had come was not asked for again");
    assert.equal(await visit.visible("#problem"), false);
    await visit.close();
  });
}

test("a page that finds no server starts once there is one", { timeout: 60_000 }, async () => {
  let broken = true;
  const prepare = Visit.answering((url) => (broken && url.pathname.endsWith("/info") ? "lost" : undefined));
  const visit = await Visit.open(browser, "", { prepare, faults: true, ready: false });
  await visit.until(() => !document.getElementById("problem").hidden);
  broken = false;
  await visit.click("#retry");
  await visit.until(() => document.querySelectorAll("#class-list input").length === 11);
  await visit.close();
});

test("several models are a choice, and each is asked under its own name", { timeout: 60_000 }, async () => {
  const asked = [];
  const prepare = async (page) => {
    await page.setRequestInterception(true);
    page.on("request", async (request) => {
      const url = new URL(request.url());
      const own = url.pathname.match(/^\/models\/([^/]+)\/(.*)$/);
      if (url.pathname === "/models") {
        request.respond({ contentType: "application/json", body: JSON.stringify({ models: [{ name: "first" }, { name: "big one", default: true }] }) });
      } else if (own) {
        asked.push(`${decodeURIComponent(own[1])}/${own[2]}`);
        const answer = await fetch(`${address}${own[2]}${url.search}`, { method: request.method() });
        request.respond({ status: answer.status, headers: Object.fromEntries(answer.headers), body: Buffer.from(await answer.arrayBuffer()) });
      } else request.continue();
    });
  };
  const visit = await Visit.open(browser, "#count=1", { prepare });
  assert.equal(await visit.value("#model"), "big one");
  await visit.generate();
  await visit.page.select("#model", "first");
  await visit.until(() => location.hash === "");
  await visit.fill("#count", "1");
  await visit.generate();
  await visit.click("#board .tile");
  assert.match(await visit.text("#command"), /\/models\/first\/generate\?/);
  assert.deepEqual(asked, ["big one/info", "big one/generate", "first/info", "first/generate"]);
  await visit.close();
});

test("the page works behind a path", { timeout: 60_000 }, async () => {
  const { hostname, port } = new URL(address);
  const proxy = http.createServer((request, response) => {
    if (!request.url.startsWith("/some/where/")) {
      response.writeHead(404).end();
      return;
    }
    const { method, headers } = request;
    const forward = http.request({ hostname, port, method, headers, path: request.url.slice("/some/where".length) }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    request.pipe(forward);
  });
  await new Promise((resolve) => { proxy.listen(0, "127.0.0.1", resolve); });
  const base = `http://127.0.0.1:${proxy.address().port}/some/where/`;
  const visit = await Visit.open(browser, "#count=3", { base });
  await visit.generate();
  assert.equal((await visit.frames()).filter(Boolean).length, 3);
  await visit.click("#board .tile");
  assert.match(await visit.text("#command"), /\/some\/where\/generate\?/);
  await visit.page.goto(`${base}docs`);
  await visit.page.waitForSelector("article");
  await visit.close();
  proxy.close();
});

/** Whether an image shows what `url` does, pixel for pixel. Runs in the page. */
async function same(image, url) {
  const other = Object.assign(new Image(), { src: url });
  await other.decode();
  const pixels = (one) => {
    const context = new OffscreenCanvas(one.naturalWidth, one.naturalHeight).getContext("2d");
    context.drawImage(one, 0, 0);
    return context.getImageData(0, 0, one.naturalWidth, one.naturalHeight).data.join();
  };
  return pixels(image) === pixels(other);
}

visiting("the reference has every route, and a form that sends what it shows", "docs", {}, async (visit) => {
  await visit.page.waitForSelector("article");
  const api = await (await fetch(`${address}openapi.json`)).json();
  const routes = Object.entries(api.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()}${path}`));
  const listed = await visit.texts("section:not(:last-of-type) article h3");
  assert.deepEqual(listed.toSorted(), routes.toSorted());
  assert.match(await visit.text("#post-generate table"), /seedqueryinteger 0 to 2⁶⁴ − 1/);
  assert.match(await visit.text("#post-generate"), /429.*The queue is full/);
  await visit.picture("docs");
  const form = "#post-generate form";
  await visit.fill(`${form} [name=class]`, "Dress");
  await visit.fill(`${form} [name=n]`, "2");
  await visit.page.select(`${form} [name=format]`, "webp");
  const command = await visit.text(`${form} pre`);
  assert.match(command, /^curl -X POST 'http:.*\/generate\?class=Dress&seed=7&n=2&format=webp' -o image\.webp$/);
  await visit.click(`${form} .send`);
  await visit.page.waitForSelector(`${form} .answer img`);
  assert.match(await visit.text(`${form} .answer`), /^200 OK .* bytes · image\/webp/);
  const [{ bytes }] = shell(command);
  assert.equal(await visit.page.$eval(`${form} .answer img`, same, `data:image/webp;base64,${bytes.toString("base64")}`), true);
  await visit.picture("docs-tried");
});

visiting("the reference shows errors and JSON as they come", "docs", { faults: true }, async (visit) => {
  await visit.page.waitForSelector("article");
  const form = "#post-generate form";
  await visit.fill(`${form} [name=alpha]`, "9");
  await visit.click(`${form} .send`);
  await visit.page.waitForSelector(`${form} .answer .s4`);
  assert.match(await visit.text(`${form} .answer`), /^422 Unprocessable Entity .*"code": "out_of_range"/s);
  await visit.click("#get-classes summary");
  await visit.click("#get-classes .send");
  await visit.page.waitForSelector("#get-classes .answer pre");
  assert.match(await visit.text("#get-classes .answer"), /"name": "Dress"/);
  await visit.page.setViewport({ width: 375, height: 812 });
  await visit.fits();
  await visit.picture("docs-phone");
});
