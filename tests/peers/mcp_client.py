"""An MCP client on the official SDK. Usage: mcp_client.py URL

Initializes, lists the tools, calls two of them, and prints one JSON object of what it got. It has no
credential and knows of none.
"""

import asyncio
import json
import sys

from mcp.client import Client


async def main(url):
    async with Client(url) as client:
        tools = await client.list_tools()
        greeting = await client.call_tool("greet", {"name": "proxy"})
        counted = await client.call_tool("count", {"to": 5})
        print(json.dumps({
            "tools": sorted(tool.name for tool in tools.tools),
            "greet": greeting.content[0].text,
            "count": counted.content[0].text,
        }))


asyncio.run(main(sys.argv[1]))
