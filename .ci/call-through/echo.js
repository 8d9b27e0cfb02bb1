// Asks an API what it got, in the OpenAI client's own way.
import OpenAI, { AzureOpenAI } from "openai";

const client = process.env.AZURE_OPENAI_ENDPOINT ? new AzureOpenAI({ apiVersion: "2024-10-21" }) : new OpenAI();
const { headers, claims } = await client.post("/x", { body: {} });
const keys = ["Api-Key", "X-Api-Key"].filter((name) => name in headers);
console.log(`the API got ${keys.length ? keys.join() : "no key"}, and a token for ${claims.aud}`);
