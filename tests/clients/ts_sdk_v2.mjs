// The TypeScript SDK, second line: `ts_sdk_v2.mjs URL|ARGV CALLS legacy|auto|REVISION`, key in MCP_KEY.
// ARGV is a JSON list: a server on stdio, which gets the key as PAPERBOT_TOKEN.
// Prints {"tools": [names], "results": [results]}; CALLS is a JSON list of {"name", "arguments"}.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [place, calls, era] = process.argv.slice(2);

function transport() {
  if (place.startsWith("[")) {
    const [command, ...args] = JSON.parse(place);
    return new StdioClientTransport({ command, args, env: { ...process.env, PAPERBOT_TOKEN: process.env.MCP_KEY } });
  }
  const headers = { Authorization: `Bearer ${process.env.MCP_KEY}` };
  return new StreamableHTTPClientTransport(new URL(place), { requestInit: { headers } });
}

const mode = ["legacy", "auto"].includes(era) ? era : { pin: era };
const client = new Client({ name: "ts-sdk-v2", version: "1.0.0" }, { versionNegotiation: { mode } });
await client.connect(transport());
const { tools } = await client.listTools();
const results = [];
for (const call of JSON.parse(calls)) results.push(await client.callTool(call));
await client.close();
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), results }));
