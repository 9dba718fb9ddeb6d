"""A real MCP server over stdio, for tests: what it is started with decides how it behaves."""

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("test")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    with open(sys.argv[1], "a") as log:
        log.write(f"{a}+{b}\n")
    return a + b


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def secret() -> str:
    """Tell the key that the server was started with."""
    return f"the key is {os.environ['TEST_KEY']}"


@server.tool()
def leave() -> str:
    """End the server's process."""
    os._exit(3)


server.run(sys.argv[2] if len(sys.argv) > 2 else "stdio")
