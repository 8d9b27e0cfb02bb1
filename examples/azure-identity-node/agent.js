// An agent with the Azure SDK for JavaScript that holds no credential.
import { DefaultAzureCredential, ManagedIdentityCredential } from "@azure/identity";

const scope = process.env.SCOPE;
for (const credential of [new DefaultAzureCredential(), new ManagedIdentityCredential()]) {
  const name = credential.constructor.name;
  for (const call of ["first", "second"]) {
    const began = performance.now();
    const took = () => Math.round(performance.now() - began);
    try {
      const token = await credential.getToken(scope);
      console.log(`${name} ${call} token after ${took()} ms, good until ${new Date(token.expiresOnTimestamp).toISOString()}`);
    } catch (error) {
      console.error(`${name} refused after ${took()} ms: ${error.message}`);
      process.exitCode = 1;
      break;
    }
  }
}
