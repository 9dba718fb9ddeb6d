"""Tools of MCP servers: the only place that speaks the Model Context Protocol, by the official client.

Invariant: a session lives on an event loop and thread of its own, from the opening of its `with` to the end, so it
serves any number of runs. Its credentials (environment, headers) appear in no result and no error.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synthkd.errors import ConfigError, MissingExtra, RecordError
from synthkd.tools.tool import Outcome, Tool

if TYPE_CHECKING:
    import mcp as protocol
    from anyio.from_thread import BlockingPortal

_SHORTEST = 6
"""Characters from which on a value may be a secret."""
_INVALID_PARAMS = -32602
"""JSON-RPC's word for arguments that a server refuses."""


@contextmanager
def mcp(
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    timeout: float = 60.0,
) -> Iterator[tuple[Tool, ...]]:
    """The tools of an MCP server, for as long as the `with` block lasts::

        with tools.mcp("python weather_server.py") as weather:
            run.map(Act(weather), questions)

    What a tool reports as an error is told to the teacher. A server that is gone or too slow costs the record
    (`tool unavailable`), with nothing journaled. All records share the session, so its tools count as without a state.

    Args:
        server: a command that talks over stdin and stdout (a text, or its words), or the `http(s)://` URL of a server
            that speaks Streamable HTTP.
        env: added to the environment of a command, which else sees PATH, HOME and the like only; values are secret.
        headers: sent to a URL with every request; values are secret.
        only: names of the tools that are wanted; by default all.
        timeout: seconds for one call, and for the server to begin.

    Raises:
        MissingExtra: the client is not installed.
        ConfigError: the server does not start or answer, or has no such tool.
    """
    try:
        import anyio.from_thread
        import mcp as protocol
    except ImportError:
        raise MissingExtra("mcp", "tools") from None
    over_http = isinstance(server, str) and server.startswith(("http://", "https://"))
    if (env and over_http) or (headers and not over_http):
        raise ConfigError("mcp(..., env=...) is for a command, and headers=... for a URL")
    given = [*(env or {}).values(), *(headers or {}).values()]
    words = {*given, *(word for value in given for word in value.split())}
    clean = _cleaner(sorted((word for word in words if len(word) >= _SHORTEST), key=len, reverse=True))
    shown = _shown(str(server)) if over_http else _words(server)[0]  # a command's other words may hold a key
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        opening = _client(protocol, server, over_http, env or {}, headers or {}, timeout, said)
        with anyio.from_thread.start_blocking_portal() as portal:
            try:
                session = portal.wrap_async_context_manager(opening)
                client = session.__enter__()
                try:
                    listed = portal.call(_listed, client)
                except BaseException as error:
                    session.__exit__(type(error), error, error.__traceback__)
                    raise
            except Exception as error:
                raise ConfigError(
                    f"the MCP server {shown!r} cannot be used: {clean(_reason(error))[:500]}{_last_words(said, clean)}"
                ) from None
            try:
                yield _tools(listed, only, shown, portal, client, timeout, clean)
            finally:
                session.__exit__(None, None, None)


def _tools(
    listed: Sequence[Any],
    only: Sequence[str] | None,
    shown: str,
    portal: BlockingPortal,
    client: protocol.Client,
    timeout: float,
    clean: Callable[[str], str],
) -> tuple[Tool, ...]:
    if missing := set(only or ()) - {one.name for one in listed}:
        there = ", ".join(one.name for one in listed) or "none"
        raise ConfigError(f"the MCP server {shown!r} has no tool {', '.join(sorted(missing))}; there are: {there}")

    def bound(name: str) -> Callable[[dict[str, Any]], Any]:
        async def call(arguments: dict[str, Any]) -> Outcome:
            try:
                async with asyncio.timeout(timeout):
                    work = portal.start_task_soon(client.call_tool, name, arguments)
                    return _outcome(await asyncio.wrap_future(work), clean)
            except Exception as error:  # whatever the transport makes of a server that is gone
                if getattr(error, "code", None) == _INVALID_PARAMS:
                    return Outcome(clean(f"Error: {error}"), failed=True)
                raise RecordError(
                    f"{name} of the MCP server {shown!r}: {clean(_reason(error))[:300]}", reason="tool unavailable"
                ) from None

        return call

    wanted = [one for one in listed if only is None or one.name in only]
    return tuple(
        Tool(
            one.name, one.description or one.title or one.name, {"properties": {}, **one.input_schema}, bound(one.name)
        )
        for one in wanted
    )


@asynccontextmanager
async def _client(
    protocol: Any,
    server: str | Sequence[str],
    over_http: bool,
    env: Mapping[str, str],
    headers: Mapping[str, str],
    patience: float,
    said: IO[str],
) -> AsyncIterator[protocol.Client]:
    async with AsyncExitStack() as stack:
        if over_http:
            import httpx2
            from mcp.client.streamable_http import streamable_http_client

            asking = httpx2.AsyncClient(headers=dict(headers), timeout=patience)
            transport = streamable_http_client(str(server), http_client=await stack.enter_async_context(asking))
        else:
            command, *arguments = _words(server)
            started = protocol.StdioServerParameters(command=command, args=arguments, env=dict(env))
            transport = protocol.stdio_client(started, errlog=said)
        async with asyncio.timeout(patience):
            client = await stack.enter_async_context(protocol.Client(transport, read_timeout_seconds=patience))
        yield client


async def _listed(client: protocol.Client) -> list[Any]:
    """Every tool, over all pages."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found


def _outcome(result: Any, clean: Callable[[str], str]) -> Outcome:
    parts = [
        part.text if part.type == "text" else f"({part.type}{_kind(part)})"
        for part in result.content
        if part.type != "text" or part.text
    ]
    text = "\n".join(parts)
    return Outcome(clean(f"Error: {text}" if result.is_error else text or "(nothing)"), bool(result.is_error))


def _kind(part: Any) -> str:
    kind = getattr(part, "mime_type", None)
    return f", {kind}" if kind else ""


def _words(server: str | Sequence[str]) -> list[str]:
    words = shlex.split(server) if isinstance(server, str) else list(server)
    if not words:
        raise ConfigError("mcp('') names no server; expected a command, or a URL")
    return words


def _cleaner(secrets: Sequence[str]) -> Callable[[str], str]:
    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "[secret]")
        return text

    return clean


def _reason(error: BaseException) -> str:
    """What went wrong, out of the groups in which a client's tasks wrap it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _last_words(said: IO[str], clean: Callable[[str], str]) -> str:
    """The end of what a command wrote to stderr."""
    said.flush()
    said.seek(0)
    text = clean(said.read()).strip()[-500:]
    return f"\nIts last words: {text}" if text else ""


def _shown(url: str) -> str:
    """A URL without credentials and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
