// Drives Chromium over the operators' page. Every check prints a line, or ends
// the program with what it found.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync, mkdtempSync, mkdirSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { ADMIN, LAB, POLICY, SCREENSHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ok = (what) => console.log(`ok: ${what}`);
const graph = "https://graph.microsoft.com/.default";

// token asks as an agent, and returns the status of the answer.
const token = (agent, form) => new Promise((resolve, reject) => {
  const body = new URLSearchParams(form).toString();
  const headers = { Host: "localhost", "Content-Type": "application/x-www-form-urlencoded", "Content-Length": Buffer.byteLength(body) };
  const r = request({ socketPath: join(LAB, `${agent}.sock`), path: "/oauth2/token", method: "POST", agent: false, headers }, (answer) => {
    answer.resume();
    answer.on("end", () => resolve(answer.statusCode));
  });
  r.on("error", reject);
  r.end(body);
});
const own = (agent, scope) => token(agent, { grant_type: "client_credentials", scope });
const forUser = (agent, scope) => token(agent, {
  grant_type: "urn:ietf:params:oauth:grant-type:token-exchange", scope, subject_token_type: "urn:ietf:params:oauth:token-type:access_token", subject_token: readFileSync(join(LAB, "agent-user-token"), "utf8"),
});

// browser opens a fresh Chromium, and keeps what a page must not do.
const faults = { foreign: [], policy: [], console: [] };
const browser = async (options) => {
  const context = await chromium.launchPersistentContext(mkdtempSync(join(process.cwd(), "profile-")), {
    executablePath: "/usr/bin/chromium", headless: true, viewport: { width: 1280, height: 900 }, ...options,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  context.on("request", (r) => { if (!r.url().startsWith(`${ADMIN}/`) && !r.url().startsWith("data:")) faults.foreign.push(r.url()); });
  context.on("console", (m) => { if (m.type() === "error" && !/status of (40[034]|503)/.test(m.text())) faults.console.push(m.text()); });
  context.on("weberror", (e) => faults.console.push(String(e.error())));
  if (options.javaScriptEnabled !== false) {
    await context.exposeFunction("policyViolation", (text) => faults.policy.push(text));
    await context.addInitScript(() => document.addEventListener("securitypolicyviolation", (e) => window.policyViolation(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}`)));
  }
  return context;
};

// The traffic: allowed, reused, joined, denied, for a user, by an agent's own account, and refused by Entra.
assert.equal(await own("researcher", graph), 200);
assert.equal(await own("researcher", graph), 200);
assert.deepEqual(await Promise.all(Array.from({ length: 12 }, () => own("researcher", "https://vault.azure.net/.default"))), Array(12).fill(200));
assert.equal(await own("invoices", graph), 400);
assert.equal(await own("mailer", graph), 200); // before the others: agents of one blueprint share its leg
assert.equal(await forUser("assistant", "https://graph.microsoft.com/User.Read"), 200);
assert.equal(await own("invoices", "https://nowhere.example/.default"), 400);
assert.equal(await forUser("mailer", graph), 400);

const withScripts = await browser({});
const page = await withScripts.newPage();
const open = async (path, at = page) => {
  const response = await at.goto(ADMIN + path);
  assert.equal(response.status(), 200, path);
};
const rows = (at = page) => at.locator("#rows tr");
const text = async (at = page) => (await at.locator("#rows").innerText()).replaceAll("\t", " ");

await open("/");
for (const [what, row] of Object.entries({
  "an allowed one": "tr:has-text('researcher'):has-text('miss')", "a reused one": "tr:has-text('researcher'):has-text('hit')", "a joined one": "tr:has-text('joined')",
  "a denied one": "tr:has-text('denied'):has-text('scope not allowed')", "one on behalf of a user": "tr:has-text('assistant'):has-text('0be5e000')",
  "one of an agent's account": "tr:has-text('mailer'):has-text('allowed')", "a failed one": "tr:has-text('failed'):has-text('entra rejected')",
})) assert.ok(await page.locator(`#rows ${row}`).count() > 0, `the list lacks ${what}:\n${await text()}`);
ok("the list has an allowed, a reused, a joined, a denied, an on-behalf-of, an agent's account's and a failed issuance");

// Filters, with scripts and without.
const without = await browser({ javaScriptEnabled: false });
const plain = await without.newPage();
for (const [name, at] of [["with scripts", page], ["without scripts", plain]]) {
  await open("/", at);
  const all = await rows(at).count();
  await at.selectOption("#decision", "deny");
  await at.click("text=Filter >> visible=true");
  await at.waitForURL(/decision=deny/);
  const denied = await rows(at).count();
  assert.ok(denied >= 1 && denied < all, `${denied} of ${all} denied ${name}`);
  await at.click("text=Show all");
  await at.selectOption("#agent", "assistant");
  await at.fill("#scope", "user.read");
  await at.fill("#user", "0be5e000-0000-4000-8000-0000000005e4");
  await at.press("#user", "Enter");
  await at.waitForURL(/agent=assistant/);
  assert.equal(await rows(at).count(), 1, name);
  await open("/?door=managed_identity", at);
  assert.equal(await rows(at).count(), 0);
  assert.ok(await at.locator("#empty").isVisible(), "nothing says that nothing matches");
}
ok("filters work with scripts and without");

// Each opens to its own page, with the steps and the waterfall.
await open("/?agent=mailer&decision=allow");
await page.click("#rows th a");
await page.waitForURL(/issuances\/[0-9a-f]{32}/);
const detail = page.url().slice(ADMIN.length);
const spans = (await page.locator(".waterfall tbody th").allInnerTexts()).map((t) => t.split("\n")[0]);
for (const leg of ["token.issue", "workload.token", "entra.token · blueprint", "entra.token · agent", "entra.token · resource"]) assert.ok(spans.includes(leg), `the waterfall lacks ${leg}: ${spans}`);
assert.equal(await page.locator(".waterfall rect.span").count(), spans.length);
assert.ok((await page.locator(".steps li").count()) >= 5);
ok("an agent user's waterfall has its five legs, and its decision its steps");
await open("/?decision=deny&reason=scope_not_allowed");
await page.click("#rows th a");
await page.waitForSelector("text=agents.invoices.allow.scopes");
assert.ok(await page.locator(".steps li.fail").count() === 1 && await page.locator(".alert:has-text('add')").count() === 1);
ok("a denied one says by which rule, and what to change");
await open("/?cache=joined");
await page.click("#rows th a");
await page.click("text=another issuance");
await page.waitForSelector("text=by an exchange of its own");
ok("a joined one leads to the exchange that it shared");

// Live updates, filtered, and pausing.
await open("/?agent=researcher");
await page.waitForSelector("#live-state:has-text('Live')");
const before = await rows().count();
await own("invoices", graph);
await own("researcher", graph);
await page.waitForFunction((n) => document.querySelectorAll("#rows tr").length === n, before + 1);
assert.ok(!(await text()).includes("invoices"), "a row that the filter leaves out arrived");
await page.click("#pause");
await own("researcher", graph);
await page.waitForSelector("#live-state:has-text('1 waiting')");
assert.equal(await rows().count(), before + 1);
await page.click("#pause");
await page.waitForFunction((n) => document.querySelectorAll("#rows tr").length === n, before + 2);
ok("issuances arrive by themselves, as the filter says, and wait while paused");

// What was shown stays, however much of it there is.
for (let n = 0; n < 210; n++) await own("researcher", graph);
await open("/?limit=1000");
await page.waitForSelector("#live-state:has-text('Live')");
const many = await rows().count();
assert.ok(many > 200, `only ${many} rows`);
await own("invoices", graph);
await page.waitForFunction(() => document.querySelector("#rows tr").innerText.includes("invoices"));
assert.equal(await rows().count(), many, "what was shown is gone");
ok("a list of all that is remembered stays one when more arrives");

// A stream that is refused is asked for again, and what came in between is shown.
await open("/policy");
const readers = [];
for (let n = 0; n < 16; n++) {
  readers.push(await new Promise((resolve, reject) => {
    const r = request(`${ADMIN}/issuances/events`, { agent: false }, (answer) => { assert.equal(answer.statusCode, 200); answer.on("error", () => {}).resume(); resolve(r); });
    r.on("error", reject);
    r.end();
  }));
}
await open("/");
await page.waitForSelector("#live-state:has-text('No updates')");
await own("invoices", graph);
for (const r of readers) r.destroy();
await page.waitForSelector("#live-state:has-text('Live')");
await page.waitForFunction(() => document.querySelector("#rows tr").innerText.includes("invoices"));
ok("a page that was one too many says so, and updates itself once there is room");

// Purging asks first; without scripts too.
for (const [name, at] of [["with scripts", page], ["without scripts", plain]]) {
  await open("/agents", at);
  await at.locator("article:has-text('researcher') >> text=Purge its tokens").first().click();
  await at.waitForSelector("h1:has-text('these tokens?')");
  await own("researcher", graph);
  const hit = await at.request.get(`${ADMIN}/issuances?limit=1`);
  assert.equal((await hit.json()).issuances[0].cache, "hit", `asking has purged already, ${name}`);
  await at.click("button.danger");
  await at.waitForSelector("h1:has-text('Purged')");
  await own("researcher", graph);
  const miss = await at.request.get(`${ADMIN}/issuances?limit=1`);
  assert.equal((await miss.json()).issuances[0].cache, "miss", `nothing was purged, ${name}`);
}
ok("purging asks first, then purges, with scripts and without");

// A policy that is broken is said to be so, and the old one shown.
await open("/policy");
assert.equal(await page.locator("td:has-text('agents.assistant.onBehalfOf.allow.scopes[0]')").count(), 1);
const whole = readFileSync(POLICY, "utf8");
writeFileSync(POLICY, whole.replace("identity: demo", "identity: nobody"));
for (let n = 0; n < 100 && await page.locator("text=is not in force").count() === 0; n++) {
  await page.waitForTimeout(100);
  await open("/policy");
}
assert.ok(await page.locator("pre:has-text('nobody')").count() === 1 && await page.locator(".readiness:has-text('Not ready')").count() === 1, "nothing says that the policy is broken");
writeFileSync(POLICY, whole);
for (let n = 0; n < 100 && await page.locator(".readiness:has-text('Not ready')").count() === 1; n++) {
  await page.waitForTimeout(100);
  await open("/policy");
}
assert.equal(await page.locator(".alert").count(), 0);
ok("the policy page shows the rules, and what is wrong with a file that is not in force");

// The keyboard reaches everything, and shows where it is.
for (const path of ["/", detail, "/agents", "/health", "/policy", "/purge/confirm?all=true"]) {
  await open(path);
  if (path === "/") await page.waitForSelector("#live-state:has-text('Live')");
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  const want = await page.evaluate(() => {
    const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")].filter((e) => e.checkVisibility());
    all.forEach((e, n) => { e.dataset.stop = n; });
    return all.length;
  });
  const reached = new Set();
  for (let n = 0; n < want + 5; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement, style = getComputedStyle(e);
      return { stop: e.dataset.stop, seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2, name: e.outerHTML.slice(0, 80) };
    });
    if (at.stop === undefined) continue;
    assert.ok(at.seen, `${path}: no focus is shown on ${at.name}`);
    reached.add(at.stop);
  }
  assert.equal(reached.size, want, `${path}: the keyboard reaches ${reached.size} of ${want}`);
}
await open("/");
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
assert.equal(await page.evaluate(() => document.activeElement.id), "main", "the skip link leads nowhere");
ok("the keyboard reaches everything, and its focus is shown");

// What looks for faults finds one.
await page.evaluate(axe);
await page.evaluate(() => document.querySelectorAll("label").forEach((e) => e.remove()));
assert.ok((await page.evaluate(() => window.axe.run())).violations.length > 0, "axe finds nothing, whatever there is");

// Accessibility and fit: light, dark, and on a phone.
const looks = [["light", "light", 1280], ["dark", "dark", 1280], ["phone", "light", 360], ["dark phone", "dark", 360]];
for (const [name, colorScheme, width] of looks) {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.setViewportSize({ width, height: 900 });
  for (const path of ["/", "/?agent=nobody-at-all", detail, "/agents", "/health", "/policy", "/purge/confirm?agent=researcher", "/issuances/unknown"]) {
    await page.goto(ADMIN + path);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 0, `${path} is ${overflow} px too wide, ${name}`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => `${n.html.slice(0, 160)} ${n.failureSummary}`).join(" | ").slice(0, 900)}`), [], `${path}, ${name}`);
  }
}
ok("axe finds nothing in light, in dark and at 360 px, and nothing is too wide");

assert.deepEqual(faults, { foreign: [], policy: [], console: [] });
ok("no request left the origin, nothing broke the content security policy, no error was logged");

if (SCREENSHOTS) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  // Something of everything, at the top of the list.
  await Promise.all(Array.from({ length: 3 }, () => own("assistant", graph)));
  await own("invoices", "https://management.azure.com/.default");
  await forUser("assistant", "https://graph.microsoft.com/User.Read");
  await own("mailer", graph);
  await own("invoices", "https://nowhere.example/.default");
  await own("researcher", graph);
  for (const [name, path, colorScheme, width, height] of [
    ["issuances", "/", "light", 1280, 860], ["issuances-dark", "/", "dark", 1280, 860], ["issuance", detail, "light", 1100, 900], ["agents", "/agents", "light", 1280, 900],
    ["health", "/health", "light", 1280, 900], ["policy", "/policy", "dark", 1280, 900], ["phone", "/", "light", 360, 780], ["phone-issuance", detail, "dark", 360, 1200], ["denied", "/?decision=deny", "light", 1280, 800],
  ]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height });
    await page.goto(ADMIN + path);
    if (path === "/") await page.waitForSelector("#live-state:has-text('Live')");
    // Of an issuance, its decision and its waterfall.
    const from = name === "issuance" ? await page.locator("#steps").boundingBox() : null;
    const to = name === "issuance" ? await page.locator(".waterfall").boundingBox() : null;
    const clip = from && { x: 0, y: from.y - 24, width, height: to.y + to.height - from.y + 48 };
    await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), ...(clip && { clip, fullPage: true }) });
  }
  ok(`screenshots are in ${SCREENSHOTS}`);
}
await without.close();
await withScripts.close();
