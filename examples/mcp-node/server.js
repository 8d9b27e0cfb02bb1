// An MCP server that lets in who has a token of Entra's for it: for AUDIENCE,
// from ISSUER. It knows nothing of how the caller came by the token.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { z } from "zod";

const { ISSUER: issuer, AUDIENCE: audience, PORT: port = 0 } = process.env;
const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const keys = createRemoteJWKSet(new URL(discovery.jwks_uri));
const sessions = new Map(); // by session id: the transport, and whose it is

function tools() {
  const server = new McpServer({ name: "demo-tools", version: "1" }, { capabilities: { logging: {} } });
  const text = (text) => ({ content: [{ type: "text", text }] });
  server.registerTool("count", { inputSchema: { to: z.number().int().max(100) } }, async ({ to }, { _meta, sendNotification }) => {
    for (let i = 1; i <= to; i++) {
      await sendNotification({ method: "notifications/progress", params: { progressToken: _meta.progressToken, progress: i, total: to } });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return text(`counted to ${to}`);
  });
  server.registerTool("whoami", {}, ({ authInfo }) => text(authInfo.clientId));
  server.registerTool("announce", { inputSchema: { text: z.string() } }, async ({ text: data }) => {
    await server.sendLoggingMessage({ level: "info", data });
    return text("announced");
  });
  return server;
}

async function caller(req) {
  const [scheme, token] = (req.headers.authorization ?? "").split(" ");
  if (scheme.toLowerCase() !== "bearer") throw new Error("there is no token");
  const { payload } = await jwtVerify(token, keys, { issuer, audience, algorithms: ["RS256"] });
  return { token, clientId: payload.azp, scopes: [], expiresAt: payload.exp, extra: { subject: payload.sub } };
}

const server = createServer(async (req, res) => {
  const refuse = (status, message, headers = {}) => res.writeHead(status, headers).end(message);
  console.log(`${req.method} ${req.url} session=${req.headers["mcp-session-id"] ? "yes" : "no"}`);
  if (req.url !== "/mcp") return refuse(404, "not here");
  try {
    req.auth = await caller(req);
  } catch (error) {
    return refuse(401, error.message, { "WWW-Authenticate": 'Bearer error="invalid_token"' });
  }
  let session = sessions.get(req.headers["mcp-session-id"]);
  if (session && session.subject !== req.auth.extra.subject) return refuse(403, "the session is somebody else's");
  if (!session && req.headers["mcp-session-id"]) return refuse(404, "there is no such session");
  if (!session) {
    const { subject } = req.auth.extra;
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, session),
      onsessionclosed: (id) => sessions.delete(id),
    });
    session = { transport, subject };
    await tools().connect(transport);
  }
  await session.transport.handleRequest(req, res);
});
server.listen(port, "127.0.0.1", () => console.log(`ready: http://127.0.0.1:${server.address().port}/mcp`));
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
