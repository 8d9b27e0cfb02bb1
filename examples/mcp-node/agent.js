// An agent with the MCP SDK that holds no credential. Where the server is, it
// is told by MCP_URL, and what to send along by MCP_KEY, if anything.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const headers = process.env.MCP_KEY ? { Authorization: `Bearer ${process.env.MCP_KEY}` } : {};
const transport = new StreamableHTTPClientTransport(new URL(process.env.MCP_URL), { requestInit: { headers } });
const client = new Client({ name: "agent", version: "1" });
const spontaneous = new Promise((resolve) => client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => resolve(params.data)));

await client.connect(transport);
console.log(`initialized: ${client.getServerVersion().name}, ${transport.sessionId ? "with" : "without"} a session`);
console.log(`tools: ${(await client.listTools()).tools.map(({ name }) => name).join(", ")}`);

// A tool that says how far it is, while it works.
let first;
const steps = [];
const result = await client.callTool({ name: "count", arguments: { to: 3 } }, undefined, {
  onprogress: ({ progress, total }) => {
    first ??= performance.now();
    steps.push(`${progress}/${total}`);
  },
});
console.log(`count: ${result.content[0].text}, after ${steps.join(", ")}, the first of them ${Math.round(performance.now() - first)} ms before the end`);

// Who the server takes the caller for.
console.log(`whoami: ${(await client.callTool({ name: "whoami", arguments: {} })).content[0].text}`);

// What the server says without being asked, on a stream of its own.
await client.callTool({ name: "announce", arguments: { text: "news" } });
console.log(`heard: ${await spontaneous}`);

const session = transport.sessionId;
await transport.terminateSession();
await client.close();
const late = await fetch(process.env.MCP_URL, {
  method: "POST",
  headers: { ...headers, "Content-Type": "application/json", Accept: "application/json, text/event-stream", "Mcp-Session-Id": session },
  body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" }),
});
console.log(`ended: the session is ${late.status === 404 ? "gone" : `still there (${late.status})`}`);
