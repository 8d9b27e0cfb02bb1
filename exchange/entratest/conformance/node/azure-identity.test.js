// @azure/identity, the credentials of the Azure SDK.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ClientAssertionCredential, ClientCertificateCredential, ClientSecretCredential, OnBehalfOfCredential, WorkloadIdentityCredential,
} from "@azure/identity";
import { checkApp, checkUser, resources, rows, userToken, withBehavior, withRequests, workloadToken, world } from "./lab.js";

const options = { authorityHost: world.authority, disableInstanceDiscovery: true, retryOptions: { maxRetries: 0 } };

async function twice(credential, scope, check) {
  await withRequests(1, async () => {
    for (let i = 0; i < 2; i++) await check((await credential.getToken(scope)).token);
  });
}

for (const credential of [
  new ClientAssertionCredential(world.tenant, world.client, async () => workloadToken(), options),
  new WorkloadIdentityCredential({ tenantId: world.tenant, clientId: world.client, tokenFilePath: world.workloadToken, ...options }),
  new ClientSecretCredential(world.tenant, world.client, world.secret, options),
  new ClientCertificateCredential(world.tenant, world.client, { certificatePath: world.certificate }, options),
]) {
  test(`@azure/identity: ${credential.constructor.name}`, async () => {
    for (const resource of resources) await twice(credential, resource.default, (token) => checkApp(token, resource));
  });
}

test("@azure/identity: OnBehalfOfCredential", async () => {
  for (const resource of resources) {
    const credential = new OnBehalfOfCredential({
      tenantId: world.tenant, clientId: world.client, getAssertion: async () => workloadToken(), userAssertionToken: await userToken(), ...options,
    });
    await twice(credential, resource.scope, (token) => checkUser(token, resource));
  }
});

for (const row of rows) {
  test(`@azure/identity: ${row.name}`, async () => {
    const given = async () => row.assertion;
    const credential = row.secret ? new ClientSecretCredential(row.tenant, row.client, row.secret, options)
      : row.flow === "obo" ? new OnBehalfOfCredential({ tenantId: row.tenant, clientId: row.client, getAssertion: given, userAssertionToken: row.userAssertion, ...options })
      : new ClientAssertionCredential(row.tenant, row.client, given, options);
    const error = await withBehavior(row.behavior, () =>
      credential.getToken(row.scopes).then(() => assert.fail("got a token"), (refused) => refused));
    if (row.discovery) {
      assert.equal(error.name, "CredentialUnavailableError");
      assert.match(error.message, /^endpoints_resolution_error: /);
    } else {
      assert.equal(error.name, "AuthenticationRequiredError");
      assert.match(error.message, row.error === "" ? /^network_error: / : new RegExp(`^${row.error}: .*AADSTS${row.code}: `));
    }
  });
}
