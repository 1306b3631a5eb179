"""The Python SDK: `python_sdk.py URL|ARGV CALLS legacy|auto|REVISION`, key in MCP_KEY.
ARGV is a JSON list: a server on stdio, which gets the key as PAPERBOT_TOKEN.

Prints {"tools": [names], "results": [results]}; CALLS is a JSON list of {"name", "arguments"}."""

import asyncio
import json
import os
import sys

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


def transport(place: str):
    if place.startswith("["):
        command, *arguments = json.loads(place)
        environment = {**os.environ, "PAPERBOT_TOKEN": os.environ["MCP_KEY"]}
        return stdio_client(StdioServerParameters(command=command, args=arguments, env=environment))
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    return streamable_http_client(place, http_client=create_mcp_http_client(headers=headers))


async def main(place: str, calls: str, era: str):
    async with Client(transport(place), mode=era) as client:
        listed = await client.list_tools()
        results = [await client.call_tool(call["name"], call["arguments"]) for call in json.loads(calls)]
    dumped = [result.model_dump(mode="json", by_alias=True, exclude_none=True) for result in results]
    print(json.dumps({"tools": [tool.name for tool in listed.tools], "results": dumped}))


asyncio.run(main(*sys.argv[1:]))
