// @azure/msal-node, Microsoft's own library.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ConfidentialClientApplication } from "@azure/msal-node";
import { checkAgent, checkApp, checkUser, resources, rows, userToken, withBehavior, withRequests, workloadToken, world } from "./lab.js";

function application({ tenant = world.tenant, client = world.client, credential = { clientAssertion: async () => workloadToken() } } = {}) {
  return new ConfidentialClientApplication({
    auth: {
      clientId: client,
      authority: `${world.authority}/${tenant}`,
      knownAuthorities: [new URL(world.authority).host],
      ...credential,
    },
  });
}

const pem = readFileSync(world.certificate, "utf8");

for (const [name, credential] of Object.entries({
  assertion: { clientAssertion: async () => workloadToken() },
  secret: { clientSecret: world.secret },
  certificate: { clientCertificate: { privateKey: pem, thumbprintSha256: world.thumbprint256 } },
})) {
  test(`msal-node: app token, ${name}`, async () => {
    const app = application({ credential });
    for (const resource of resources) {
      await withRequests(1, async () => {
        for (const fromCache of [false, true]) {
          const result = await app.acquireTokenByClientCredential({ scopes: [resource.default] });
          assert.equal(result.fromCache, fromCache);
          await checkApp(result.accessToken, resource);
        }
      });
    }
  });
}

test("msal-node: on behalf of", async () => {
  const app = application();
  for (const resource of resources) {
    const oboAssertion = await userToken();
    await withRequests(1, async () => {
      for (const fromCache of [false, true]) {
        const result = await app.acquireTokenOnBehalfOf({ oboAssertion, scopes: [resource.scope] });
        assert.equal(result.fromCache, fromCache);
        // A defect of 7.2.1: OnBehalfOfClient reads a Map as an object, and so
        // never finds the user of a cached token.
        assert.equal(result.account?.homeAccountId, fromCache ? undefined : `${world.user}.${world.tenant}`);
        await checkUser(result.accessToken, resource);
      }
    });
  }
});

test("msal-node: refresh token", async () => {
  const app = application();
  await withRequests(2, async () => {
    const { account } = await app.acquireTokenOnBehalfOf({ oboAssertion: await userToken(), scopes: [resources[0].scope] });
    const result = await app.acquireTokenSilent({ account, scopes: [resources[1].scope] });
    await checkUser(result.accessToken, resources[1]);
  });
});

function agent() {
  const blueprint = application({ client: world.blueprint });
  const clientAssertion = async () =>
    (await blueprint.acquireTokenByClientCredential({ scopes: [world.exchange.default], fmiPath: world.agent })).accessToken;
  return application({ client: world.agent, credential: { clientAssertion } });
}

test("msal-node: agent acts for itself", async () => {
  const app = agent();
  await withRequests(2, async () => { // one of the blueprint, one of the agent
    for (let i = 0; i < 2; i++) {
      const result = await app.acquireTokenByClientCredential({ scopes: [world.graph.default] });
      await checkAgent(result.accessToken, { idtyp: "app", oid: world.agent, roles: [world.graph.role] });
    }
  });
});

test("msal-node: agent on behalf of a user", async () => {
  const result = await agent().acquireTokenOnBehalfOf({ oboAssertion: await userToken(world.blueprint), scopes: [world.graph.scope] });
  await checkAgent(result.accessToken, { idtyp: "user", oid: world.user, scp: "User.Read" });
});

for (const who of [{ username: world.agentUserName }, { userObjectId: world.agentUser }]) {
  test(`msal-node: agent user by ${Object.keys(who)[0]}`, async () => {
    const app = agent();
    const own = await app.acquireTokenByClientCredential({ scopes: [world.exchange.default] });
    const result = await app.acquireTokenByUserFederatedIdentityCredential({ scopes: [world.graph.scope], assertion: own.accessToken, ...who });
    await checkAgent(result.accessToken, { idtyp: "user", oid: world.agentUser, scp: "User.Read" });
    await withRequests(0, async () => {
      const silent = await app.acquireTokenSilent({ account: result.account, scopes: [world.graph.scope] });
      await checkAgent(silent.accessToken, { idtyp: "user", oid: world.agentUser, scp: "User.Read" });
    });
  });
}

for (const row of rows) {
  test(`msal-node: ${row.name}`, async () => {
    const app = application({ tenant: row.tenant, client: row.client, credential: row.secret ? { clientSecret: row.secret } : { clientAssertion: async () => row.assertion } });
    const error = await withBehavior(row.behavior, () => {
      const answer = row.flow === "obo"
        ? app.acquireTokenOnBehalfOf({ oboAssertion: row.userAssertion, scopes: row.scopes })
        : app.acquireTokenByClientCredential({ scopes: row.scopes });
      return answer.then(() => assert.fail("got a token"), (refused) => refused);
    });
    if (row.discovery) {
      assert.deepEqual([error.name, error.errorCode], ["ClientAuthError", "endpoints_resolution_error"]);
    } else if (row.error === "") {
      assert.deepEqual([error.name, error.errorCode], ["AuthError", "token_parsing_error"]);
    } else {
      const interaction = row.suberror !== "";
      assert.equal(error.name, interaction ? "InteractionRequiredAuthError" : "ServerError");
      assert.deepEqual([error.errorCode, error.subError], [row.error, row.suberror]);
      assert.match(error.errorMessage, new RegExp(`AADSTS${row.code}: `));
      assert.equal(Boolean(error.claims), row.claims);
      if (!interaction) assert.equal(error.errorNo, row.code);
      if (error.status !== undefined) assert.equal(error.status, row.status);
    }
  });
}
