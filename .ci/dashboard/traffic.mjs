// Agents at work, until SIGTERM. Once everything that is counted has happened,
// which takes most of a minute, it says so.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { request as secureRequest } from "node:https";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const { LAB, MANAGE, TCP, WEBHOOK, CERTIFICATE } = process.env;
const graph = "https://graph.microsoft.com/.default";
const users = readFileSync(join(LAB, "agent-user-token"), "utf8");
const kept = new Map(); // a connection for each socket

const send = (make, options, body) => new Promise((resolve, reject) => {
  const r = make(options, (answer) => { answer.resume(); answer.on("end", () => resolve(answer.statusCode)); });
  r.on("error", reject);
  r.end(body);
});
const socket = (pod, agent) => {
  const socketPath = join(LAB, pod, `${agent}.sock`);
  if (!kept.has(socketPath)) kept.set(socketPath, new Agent({ keepAlive: true }));
  return { socketPath, agent: kept.get(socketPath), headers: { Host: "localhost" } };
};
const token = (to, form) => {
  const body = new URLSearchParams(form).toString();
  return send(request, { ...to, path: "/oauth2/token", method: "POST", headers: { ...to.headers, "Content-Type": "application/x-www-form-urlencoded", "Content-Length": Buffer.byteLength(body) } }, body);
};
const own = (to, scope, more) => token(to, { grant_type: "client_credentials", scope, ...more });
const forUser = (to, assertion) => token(to, { grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", requested_token_use: "on_behalf_of", scope: "https://graph.microsoft.com/User.Read", assertion });
const call = (to, path) => send(request, { ...to, path });
const entra = (behavior) => {
  const body = JSON.stringify(behavior), { hostname, port } = new URL(MANAGE);
  return send(secureRequest, { hostname, port, path: "/behavior", method: "PUT", headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) } }, body);
};

const [host, port] = WEBHOOK.split(":"), ca = readFileSync(CERTIFICATE);
const review = (pod) => {
  const body = JSON.stringify(pod ? { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request: { uid: "u", operation: "CREATE", namespace: "research", resource: { version: "v1", resource: "pods" }, object: pod } } : {});
  return send(secureRequest, { host, port, servername: "localhost", ca, path: "/mutate", method: "POST", headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) } }, body);
};
const labels = { "credfree.dev/inject": "true" };
const good = { metadata: { labels, annotations: { "credfree.dev/policy": "agents", "credfree.dev/agent.worker": "researcher" } }, spec: { containers: [{ name: "worker", image: "worker", securityContext: { runAsUser: 10001 } }] } };
const bad = { metadata: { labels }, spec: { containers: [] } };

const researcher = socket("research-0", "researcher"), mailer = socket("research-0", "mailer"), invoices = socket("research-0", "invoices");
const assistant = socket("support-0", "assistant"), archivist = socket("support-0", "archivist");
const tcp = { hostname: "127.0.0.1", port: new URL(TCP).port, headers: { Host: "localhost" } };

// What happens once, and when.
const policy = join(LAB, "research-0.yaml"), without = readFileSync(policy, "utf8").replace(/\n  visitor:[^]*$/, "\n");
const events = [
  [0, () => entra({ delay: "60ms", lifetime: "30s" })],
  [2, () => own(socket("research-0", "visitor"), graph)],
  [14, () => writeFileSync(policy, without)], // the visitor's token is purged
  [18, () => entra({ status: 429, retryAfter: "6" })],
  [22, () => entra({ delay: "120ms", lifetime: "75m" })],
  [28, () => writeFileSync(policy, `${without}  nobody: {}\n`)],
  [34, () => writeFileSync(policy, without)],
  [36, () => entra({ status: 503 })],
  [40, () => entra({ delay: "60ms", lifetime: "75m" })],
  [50, () => console.log("enough")],
];

const statuses = {};
const noted = async (what, answer) => { (statuses[what] ??= new Set()).add(await answer); };
let working = true;
process.once("SIGTERM", () => { working = false; });
const began = Date.now();
for (let tick = 0; working; tick++) {
  const at = (Date.now() - began) / 1000;
  while (events.length && events[0][0] <= at) await events.shift()[1]();
  const wave = 3 + Math.round(2 * Math.sin(at / 5));
  const work = [...Array.from({ length: wave }, () => noted("researcher", own(researcher, graph))), noted("assistant", own(assistant, graph))];
  if (tick % 2 === 0) work.push(noted("mailer", own(mailer, graph)), noted("user", forUser(assistant, users)));
  if (tick % 3 === 0) work.push(noted("call", call(researcher, "/call/graph/users/x")), noted("vault", own(invoices, "https://vault.azure.net/.default")));
  if (tick % 7 === 0) work.push(noted("denied", own(invoices, graph)), noted("stranger", own(tcp, graph)), noted("bad user", forUser(assistant, `${users.slice(0, -6)}AAAAAA`)));
  if (tick % 11 === 0) work.push(noted("expired", own(archivist, graph)), noted("gone", call(researcher, "/call/gone/x")), noted("ghost", own(invoices, "https://vault.azure.net/.default", { identity: "ghost" })));
  if (tick % 20 === 0) work.push(...Array.from({ length: 4 }, () => noted("new", own(researcher, "https://vault.azure.net/.default", { claims: JSON.stringify({ access_token: { nbf: { essential: true, value: String(Math.floor(Date.now() / 1000)) } } }) }))));
  if (tick % 5 === 0) work.push(noted("pod", review(good)));
  if (tick % 23 === 0) work.push(noted("pod", review(bad)), noted("no pod", review()));
  await Promise.all(work);
  await pause(200);
}
for (const what of ["researcher", "assistant", "mailer", "user", "call", "vault", "new", "pod"]) assert.ok(statuses[what].has(200) || statuses[what].has(404), `${what}: ${[...statuses[what]]}`);
for (const what of ["denied", "stranger", "bad user", "expired", "ghost", "gone", "no pod"]) assert.ok(!statuses[what].has(200), `${what}: ${[...statuses[what]]}`);
console.log(Object.entries(statuses).map(([what, its]) => `${what}: ${[...its]}`).join("; "));
