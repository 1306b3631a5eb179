// The TypeScript SDK, first line: tasks of 2025-11-25. `ts_sdk_v1_tasks.mjs URL|ARGV CALL SLOW`, key in MCP_KEY; ARGV as
// for ts_sdk_v1.mjs. CALL is run as a task to its end, SLOW as one that is cancelled. Prints
// {"capability", "said": [kinds of messages], "progress": [steps], "result", "cancelled", "listed": [statuses]}.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [place, call, slow] = process.argv.slice(2);

function transport() {
  if (place.startsWith("[")) {
    const [command, ...args] = JSON.parse(place);
    return new StdioClientTransport({ command, args, env: { ...process.env, PAPERBOT_TOKEN: process.env.MCP_KEY } });
  }
  const headers = { Authorization: `Bearer ${process.env.MCP_KEY}` };
  return new StreamableHTTPClientTransport(new URL(place), { requestInit: { headers } });
}

const capabilities = { tasks: { list: {}, cancel: {} } };
const client = new Client({ name: "ts-sdk-v1-tasks", version: "1.0.0" }, { capabilities });
await client.connect(transport());
await client.listTools();
const { tasks } = client.experimental;
const [said, progress] = [[], []];
let result;
const options = { task: { ttl: 60000 }, onprogress: (told) => progress.push(told.progress) };
for await (const message of tasks.callToolStream(JSON.parse(call), undefined, options)) {
  if (said.at(-1) !== message.type) said.push(message.type);
  result = message.result ?? message.error?.message;
}
let cancelled;
for await (const message of tasks.callToolStream(JSON.parse(slow), undefined, { task: {} })) {
  if (message.type === "taskCreated") cancelled = await tasks.cancelTask(message.task.taskId);
}
const listed = (await tasks.listTasks()).tasks.map((task) => task.status);
const capability = client.getServerCapabilities().tasks;
await client.close();
console.log(JSON.stringify({ capability, said, progress, result, cancelled, listed }));
