// Drives Chromium over the page. Every check prints a line, or ends the program
// with what it found.
import assert from "node:assert/strict";
import { readFileSync, mkdtempSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { defaultDashboard } from "@grafana/schema";
import { chromium } from "playwright-core";

const { PROMETHEUS, BEGAN, DASHBOARD, SCREENSHOTS } = process.env;
const ok = (what) => console.log(`ok: ${what}`);
const { schemaVersion } = JSON.parse(readFileSync(DASHBOARD, "utf8"));
assert.ok(schemaVersion <= defaultDashboard.schemaVersion, `Grafana knows schema version ${defaultDashboard.schemaVersion}, and not yet ${schemaVersion}`);
const now = Math.floor(Date.now() / 1000);

// Grafana's fonts and icons, at the addresses where Grafana has them.
const fonts = { "Inter-Regular.woff2": "inter-latin-400-normal.woff2", "Inter-Medium.woff2": "inter-latin-500-normal.woff2" };
const icons = "/public/build/img/";
const kinds = { ".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2", ".svg": "image/svg+xml" };
const server = createServer((request, answer) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  try {
    const font = fonts[path.split("/").pop()];
    const body = path === "/" ? '<!doctype html><meta charset="utf-8"><title>credfree</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/main.css"><body style="margin:16px"><div id="page"></div><script type="module" src="/main.js"></script>'
      : path.startsWith(icons) ? readFileSync(join("node_modules/@grafana/ui/dist/public/img", path.slice(icons.length)))
      : font ? readFileSync(join("node_modules/@fontsource/inter/files", font)) : readFileSync(join("page", path));
    answer.writeHead(200, { "Content-Type": kinds[extname(path)] ?? "text/html" }).end(body);
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));

const context = await chromium.launchPersistentContext(mkdtempSync(join(process.cwd(), "profile-")), {
  executablePath: "/usr/bin/chromium", headless: true, viewport: { width: 1632, height: 1000 },
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const faults = [];
context.on("console", (m) => { if (["error", "warning"].includes(m.type())) faults.push(m.text()); });
context.on("weberror", (e) => faults.push(String(e.error())));
context.on("requestfailed", (r) => faults.push(`${r.url()}: ${r.failure()?.errorText}`));
const page = await context.newPage();

// open shows the dashboard, and returns what its panels say of themselves.
const open = async (choice) => {
  const query = new URLSearchParams([["prometheus", PROMETHEUS], ["scrape", "1"], ["from", String(Number(BEGAN) + 4)], ["to", String(now)], ...choice]);
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  await page.waitForFunction(() => window.report && document.querySelectorAll("[data-panel]").length === window.report.panels.length, null, { timeout: 60_000 }).catch((e) => { throw new Error(`${e.message}; ${faults.join("; ")}`); });
  // Tables leave out what is out of sight.
  await page.setViewportSize({ width: 1632, height: await page.evaluate(() => document.documentElement.scrollHeight) });
  await page.waitForFunction(() => [...document.querySelectorAll("[data-panel] canvas")].every((c) => c.width > 0));
  await page.waitForLoadState("networkidle"); // icons come last
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  return page.evaluate(() => window.report);
};

// drawn is what is seen of a panel. Axes and texts are grey; what is drawn is not.
const drawn = (id) => page.evaluate((id) => {
  const panel = document.querySelector(`[data-panel="${id}"]`);
  let coloured = 0;
  for (const canvas of panel.querySelectorAll("canvas")) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 128 && Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 60) coloured++;
  }
  const title = panel.querySelector("h2");
  return {
    coloured, empty: panel.querySelector("[data-empty]") !== null, text: panel.innerText, cut: title.scrollWidth > title.clientWidth,
    legend: [...panel.querySelectorAll('[data-testid^="data-testid VizLegend series"]')].map((e) => e.innerText.split("\n")[0].trim()),
    header: [...panel.querySelectorAll('[role="columnheader"]')].map((e) => e.innerText.trim()), rows: panel.querySelectorAll('[role="row"]').length - 1,
    exemplars: panel.querySelectorAll("[data-exemplar]").length,
  };
}, id);

// Where nobody asks, these are right to be empty; where agents are at work, none is.
const emptyWhileBusy = {};
const emptyWhileIdle = Object.fromEntries(Object.entries({
  "no agent has asked": ["Requests by decision", "Tokens handed out, by agent", "Why not", "Time from request to answer", "Slowest 1 in 100, by how the token was come by", "Share of hits", "Age of the tokens handed out, median"],
  "Entra was not asked": ["Requests to Entra by leg and outcome", "Time that Entra takes, 95th percentile", "Refusals by AADSTS number"],
  "there is nothing to refresh": ["Refreshes in the background"],
  "no user's token was brought": ["Users' tokens verified"],
  "no API was called": ["Calls by API and class of status", "Time until the answer begins, 95th percentile"],
}).flatMap(([why, titles]) => titles.map((title) => [title, why])));

const problems = [];
const inspect = async (report, empty, where) => {
  let count = 0;
  for (const panel of report.panels) {
    const fault = (text) => problems.push(`${where}: ${panel.title}: ${text}`);
    if (panel.error) fault(panel.error);
    if (panel.type === "row") continue;
    count++;
    const seen = await drawn(panel.id);
    if (seen.cut) fault("its title is cut off");
    if (!seen.text.includes(panel.title)) fault("its title is not shown");
    if (panel.empty !== seen.empty) fault("it says that there is nothing where there is something, or the other way round");
    if (panel.empty) {
      if (!empty[panel.title]) fault(`it shows nothing: ${panel.expressions}`);
      continue;
    }
    if (empty[panel.title]) fault(`it is not empty: ${empty[panel.title]}`);
    for (const name of panel.names) if (!name.trim() || /[{}]|^Value|^Time$|:\s*$|^\s*:|^\/|\/$/.test(name) || panel.expressions.includes(name)) fault(`a series is called ${JSON.stringify(name)}`);
    if (new Set(panel.names).size !== panel.names.length) fault(`series share a name: ${panel.names}`);
    if (panel.texts.some((text) => /NaN|undefined|null|Inf/.test(text))) fault(`it says ${panel.texts}`);
    if (empty === emptyWhileBusy && panel.unmatched.length) fault(`nothing is called ${panel.unmatched}, which an override is for`);
    if (panel.changed?.length) fault(`it shows these in other words: ${panel.changed}`);
    if (panel.points === 0 && !panel.blank) fault("it has no points");
    if (empty === emptyWhileBusy && panel.wantsExemplars && (panel.exemplars === 0 || seen.exemplars === 0)) fault(`${panel.exemplars} exemplars, ${seen.exemplars} drawn`);
    switch (panel.type) {
      case "timeseries":
        if (seen.coloured < 20) fault(`only ${seen.coloured} pixels are coloured`);
        if (seen.legend.toSorted().join() !== panel.names.toSorted().join()) fault(`the legend says ${seen.legend}, and not ${panel.names}`);
        break;
      case "heatmap":
        if (seen.coloured < 500) fault(`only ${seen.coloured} pixels are coloured`);
        break;
      case "table":
        if (seen.rows < 1 || seen.header.join() !== panel.names.join()) fault(`${seen.rows} rows below ${seen.header}, not ${panel.names}`);
        break;
      default:
        for (const text of panel.texts) if (!seen.text.replaceAll(/\s/g, "").includes(text.replaceAll(/\s/g, ""))) fault(`${text} is not shown in ${seen.text}`);
    }
  }
  return count;
};

const shoot = async (name) => {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
};

const busy = await open([]);
const count = await inspect(busy, emptyWhileBusy, "dark");
await shoot("dashboard-dark");
const light = await open([["theme", "light"]]);
await inspect(light, emptyWhileBusy, "light");
await shoot("dashboard-light");
for (const agents of [["mailer"], ["mailer", "researcher"]]) {
  const chosen = await open([["namespace", "research"], ...agents.map((agent) => ["agent", agent])]);
  for (const panel of chosen.panels) if (panel.error) problems.push(`of ${agents}: ${panel.title}: ${panel.error}`);
  const { names } = chosen.panels.find((panel) => panel.title === "Tokens handed out, by agent");
  if (names.toSorted().join() !== agents.join()) problems.push(`of ${agents}: tokens of ${names}`);
}
const { namespace, agent } = busy.offered;
if (namespace.join() !== "research,spare,support" || !["archivist", "assistant", "invoices", "mailer", "researcher"].every((name) => agent.includes(name))) problems.push(`the variables offer ${namespace} and ${agent}`);
const idle = await open([["namespace", "spare"]]);
await inspect(idle, emptyWhileIdle, "idle");
await shoot("dashboard-idle");
assert.deepEqual([...problems, ...faults], []);
ok(`${count} panels draw what a real Prometheus says of live brokers, with Grafana's own libraries, in the dark and in the light`);
await context.close();
server.close();
