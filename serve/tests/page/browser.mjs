// A browser without a window, and what the tests do with it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliDecompressSync } from "node:zlib";

/** Where tools/node-modules has put the packages. */
const modules = process.env.NODE_FOLDER;
/** Where pictures are kept, if anyone wants to look at them. */
const pictures = process.env.DRIFTING_SCREENSHOTS;
/** The server under test. */
export const address = process.env.PAGE_ADDRESS;

const load = createRequire(join(modules, "index.js"));
const puppeteer = load("puppeteer-core");

/** Unpacks the browser once; DRIFTING_CHROMIUM names another one. */
async function executable() {
  if (process.env.DRIFTING_CHROMIUM) return process.env.DRIFTING_CHROMIUM;
  const folder = join(modules, "browser");
  if (!existsSync(folder)) {
    const partial = mkdtempSync(join(modules, "unpacking-"));
    process.env.TMPDIR = partial;
    await load("@sparticuz/chromium").executablePath();
    delete process.env.TMPDIR;
    renameSync(partial, folder);
  }
  return join(folder, "chromium");
}

export async function launch() {
  const options = { executablePath: await executable(), args: ["--no-sandbox", "--disable-dev-shm-usage"], headless: "shell", pipe: true };
  try {
    return await puppeteer.launch(options);
  } catch (error) {
    if (!/shared libraries/.test(error.message)) throw error;
    return puppeteer.launch({ ...options, env: { ...process.env, LD_LIBRARY_PATH: libraries() } });
  }
}

/** Libraries that the package brings for systems without them. */
function libraries() {
  const folder = join(modules, "libraries");
  const packed = join(dirname(load.resolve("@sparticuz/chromium")), "../../bin/al2023.tar.br");
  mkdirSync(folder, { recursive: true });
  execFileSync("tar", ["-x", "-C", folder], { input: brotliDecompressSync(readFileSync(packed)) });
  return join(folder, "lib");
}

/** One visit of the page, in a browser profile of its own. */
export class Visit {
  /** Opens `path`; `prepare` may set the tab up before. No request may fail, unless `faults` allows it. */
  static async open(browser, path = "", { prepare, faults = false, base = address, ready = !path.startsWith("docs") } = {}) {
    const visit = new Visit();
    visit.context = await browser.createBrowserContext();
    visit.page = await visit.context.newPage();
    visit.faults = [];
    visit.page.on("pageerror", (error) => visit.faults.push(error.stack));
    visit.page.on("console", (message) => {
      // Servers with one model may not have /models; that is asked for on purpose.
      const expected = message.location().url?.endsWith("/models");
      if (message.type() === "error" && !expected && !faults) visit.faults.push(message.text());
    });
    await visit.page.setViewport({ width: 1280, height: 860 });
    await prepare?.(visit.page);
    await visit.page.goto(base + path);
    if (ready) await visit.page.waitForSelector("#class-list input");
    return visit;
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.faults, []);
  }

  text(selector) {
    return this.page.$eval(selector, (node) => node.textContent);
  }

  value(selector) {
    return this.page.$eval(selector, (node) => node.value);
  }

  texts(selector) {
    return this.page.$$eval(selector, (nodes) => nodes.map((node) => node.textContent));
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  click(selector) {
    return this.page.click(selector);
  }

  /** Replaces what is in a field. */
  async fill(selector, text) {
    await this.page.$eval(selector, (node) => { node.value = ""; });
    await this.page.type(selector, text);
  }

  visible(selector) {
    return this.page.$eval(selector, (node) => node.checkVisibility());
  }

  /** Waits until `test` is true in the page. */
  until(test, ...values) {
    return this.page.waitForFunction(test, { timeout: 20_000 }, ...values);
  }

  /** Waits until the run is over. */
  async settled() {
    await this.until(() => document.getElementById("board").ariaBusy === "false");
  }

  async generate() {
    await this.click("#generate");
    await this.settled();
  }

  /** What each frame on the board holds. */
  frames() {
    return this.page.$$eval("#board .tile", (tiles) => tiles.map((tile) => {
      const image = tile.querySelector("img");
      return image && { alt: image.alt, width: image.naturalWidth, shown: image.getBoundingClientRect().width };
    }));
  }

  /** Lets files be saved into a folder of its own and returns a function that waits for the next one. */
  async downloads() {
    const folder = mkdtempSync(join(tmpdir(), "drifting-page-"));
    const session = await this.page.createCDPSession();
    await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, browserContextId: this.context.id });
    return async () => {
      for (let tries = 0; tries < 400; tries += 1) {
        const [name] = readdirSync(folder).filter((file) => !file.endsWith(".crdownload"));
        if (name) {
          const bytes = readFileSync(join(folder, name));
          rmSync(join(folder, name));
          return { name, bytes };
        }
        await sleep(50);
      }
      throw new Error("nothing was saved");
    };
  }

  /** What the clipboard holds. */
  copied() {
    return this.page.evaluate(() => navigator.clipboard.readText());
  }

  async allowCopying() {
    await this.page.bringToFront();
    await this.context.overridePermissions(new URL(address).origin, ["clipboard-read", "clipboard-sanitized-write"]);
  }

  /** The page must not be wider than its window. */
  async fits() {
    const [wide, window] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${wide} pixels in a window of ${window}`);
  }

  /** Lets `answer` treat requests: it returns a response, `"lost"`, or nothing for the server's own answer. */
  static answering(answer) {
    return async (page) => {
      await page.setRequestInterception(true);
      page.on("request", (request) => {
        const given = answer(new URL(request.url()));
        if (given === "lost") request.abort("connectionrefused");
        else if (given) request.respond(given);
        else request.continue();
      });
    };
  }

  async picture(name) {
    if (!pictures) return;
    mkdirSync(pictures, { recursive: true });
    await sleep(300);
    await this.page.screenshot({ path: join(pictures, `${name}.png`) });
  }
}

/** An error of the server as it would answer it. */
export const refusal = (status, code, message, headers = {}) => ({
  status,
  headers,
  contentType: "application/json",
  body: JSON.stringify({ error: { code, message, request_id: "0123456789abcdef" } }),
});

/** Runs a command in a new folder and returns what it wrote there. */
export function shell(command) {
  const folder = mkdtempSync(join(tmpdir(), "drifting-page-"));
  execFileSync("sh", ["-c", command], { cwd: folder, stdio: "pipe" });
  const files = readdirSync(folder).map((name) => ({ name, bytes: readFileSync(join(folder, name)) }));
  rmSync(folder, { recursive: true });
  return files;
}

/** Width and height of a PNG. */
export const size = (png) => [png.readUInt32BE(16), png.readUInt32BE(20)];
