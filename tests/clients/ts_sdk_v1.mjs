// The TypeScript SDK, first line (revisions up to 2025-11-25): `ts_sdk_v1.mjs URL|ARGV CALLS`, key in MCP_KEY.
// ARGV is a JSON list: a server on stdio, which gets the key as PAPERBOT_TOKEN.
// Prints {"tools": [names], "results": [results]}; CALLS is a JSON list of {"name", "arguments"}.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [place, calls] = process.argv.slice(2);

function transport() {
  if (place.startsWith("[")) {
    const [command, ...args] = JSON.parse(place);
    return new StdioClientTransport({ command, args, env: { ...process.env, PAPERBOT_TOKEN: process.env.MCP_KEY } });
  }
  const headers = { Authorization: `Bearer ${process.env.MCP_KEY}` };
  return new StreamableHTTPClientTransport(new URL(place), { requestInit: { headers } });
}

const client = new Client({ name: "ts-sdk-v1", version: "1.0.0" });
await client.connect(transport());
const { tools } = await client.listTools();
const results = [];
for (const call of JSON.parse(calls)) results.push(await client.callTool(call));
await client.close();
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), results }));
