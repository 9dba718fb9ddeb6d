"""Tools: what a teacher may call, from typed functions, OpenAPI documents, MCP servers, or played by a model."""

from synthkd.tools.course import Course
from synthkd.tools.played import Played, simulated
from synthkd.tools.rest import openapi
from synthkd.tools.servers import mcp
from synthkd.tools.tool import Outcome, Tool, Used
from synthkd.tools.typed import function

__all__ = ["Course", "Outcome", "Played", "Tool", "Used", "function", "mcp", "openapi", "simulated"]
