// The emulator, as the tests see it. CONFORMANCE_WORLD says where it is.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRemoteJWKSet, jwtVerify } from "jose";

export const world = JSON.parse(process.env.CONFORMANCE_WORLD);
export const resources = [world.graph, world.ledger];

export async function control(path, body) {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(world.control + path, init);
  assert.equal(answer.status, 200, path);
  return answer.json();
}

export const workloadToken = () => readFileSync(world.workloadToken, "utf8");
export const userToken = async (audience = world.client) => (await control(`/user-token?audience=${audience}`)).token;
export const rows = await control("/rows");
assert.ok(rows.length >= 20);

/** Runs f while the token endpoint behaves as wanted. */
export async function withBehavior(wanted, f) {
  await control("/behavior", wanted);
  try {
    return await f();
  } finally {
    await control("/behavior", {});
  }
}

/** Runs f, which has to make that many token requests. */
export async function withRequests(want, f) {
  const before = (await control("/count")).count;
  await f();
  assert.equal((await control("/count")).count - before, want, "token requests");
}

/** Checks a token the way the API does, with jose. */
async function verified(token, resource, client = world.client) {
  const keys = createRemoteJWKSet(new URL(resource.keys));
  const { payload } = await jwtVerify(token, keys, {
    algorithms: ["RS256"], audience: resource.audience, issuer: resource.issuer,
    requiredClaims: ["exp", "iat", "nbf", "sub", "oid", "tid", "uti"],
  });
  assert.equal(payload.tid, world.tenant);
  assert.equal(payload[resource.clientClaim], client);
  return payload;
}

export async function checkApp(token, resource) {
  const { roles, idtyp, scp } = await verified(token, resource);
  assert.deepEqual({ roles, idtyp, scp }, { roles: [resource.role], idtyp: "app", scp: undefined });
}

export async function checkUser(token, resource) {
  const { scp, oid, idtyp } = await verified(token, resource);
  assert.deepEqual({ scp, oid, idtyp }, { scp: resource.scope.split("/").pop(), oid: world.user, idtyp: "user" });
}

export async function checkAgent(token, want) {
  const claims = await verified(token, world.graph, world.agent);
  assert.equal(claims.xms_par_app_azp, world.blueprint);
  for (const [name, value] of Object.entries(want)) assert.deepEqual(claims[name], value, name);
}
