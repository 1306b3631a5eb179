"""FastMCP's client: `fastmcp_client.py URL CALLS legacy|auto|REVISION`, key in MCP_KEY.

Prints {"tools": [names], "results": [results]}; CALLS is a JSON list of {"name", "arguments"}."""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport


async def main(url: str, calls: str, era: str):
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    async with Client(StreamableHttpTransport(url, headers=headers), mode=era) as client:
        tools = await client.list_tools()
        results = [await client.call_tool_mcp(call["name"], call["arguments"]) for call in json.loads(calls)]
    dumped = [result.model_dump(mode="json", by_alias=True, exclude_none=True) for result in results]
    print(json.dumps({"tools": [tool.name for tool in tools], "results": dumped}))


asyncio.run(main(*sys.argv[1:]))
