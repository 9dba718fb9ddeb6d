"""HTTP calls of tools: the only place where a tool's arguments become a request, and that holds a tool's credentials.

Invariant: credentials are no arguments, and no text that leaves here holds them. An argument changes neither host nor
path beyond its own segment.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from synthkd.errors import ConfigError, RecordError, RunError
from synthkd.tools.tool import Outcome

if TYPE_CHECKING:
    import aiohttp

_SHORTEST = 6
"""Characters from which on a value may be a secret; shorter ones would blot out plain words."""
_LONGEST = 2**20
"""Bytes of an answer that are read."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be tried again when nobody knows whether the first try had its effect."""
_NOT_TAKEN = frozenset({429, 503})
_TRANSIENT = frozenset({408, 425, *_NOT_TAKEN, 500, 502, 504})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an argument goes."""

    where: str
    """`path`, `query`, `header` or `body`."""
    name: str
    explode: bool = False
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call."""

    method: str
    path: str
    places: Mapping[str, Place]
    form: str
    """The media type of the body."""


class _Again(Exception):
    """A failure that another try may cure."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where calls go, with what credentials."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    timeout: float
    tries: int

    def gives(self, where: str, name: str) -> bool:
        """Whether a parameter is given with every call, so that it is no argument."""
        if where == "header":
            return name.lower() in {header.lower() for header in self.headers}
        return where == "query" and name in self.query

    async def call(self, operation: Operation, arguments: Mapping[str, Any]) -> Outcome:
        """Make the call.

        Raises:
            ValueError: an argument that no request can hold.
            RecordError: no answer came about (reason `tool unavailable`).
            RunError: 401.
        """
        url, headers, body = self._request(operation, arguments)
        tries = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            stop=stop_after_attempt(self.tries),
            wait=wait_random_exponential(0.2, max=20),
            reraise=True,
        )
        try:
            return await tries(self._tried, operation, url, headers, body)
        except _Again as error:
            raise RecordError(f"{operation.method} {operation.path}: {error}", reason="tool unavailable") from None

    def clean(self, text: str) -> str:
        """A text without the credentials."""
        for secret in self.secrets:
            text = text.replace(secret, "[secret]")
        return text

    def _request(self, operation: Operation, arguments: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes | None]:
        path = operation.path
        query: list[tuple[str, str]] = []
        headers: dict[str, str] = {}
        body: bytes | None = None
        for name, value in arguments.items():
            place = operation.places[name]
            match place.where:
                case "path":
                    path = path.replace(f"{{{place.name}}}", _segment(name, value))
                case "query":
                    query += _pairs(place, value)
                case "header":
                    headers[place.name] = _header(name, value)
                case _ if operation.form == "application/json":
                    body = json.dumps(value).encode()
                case _:
                    body = urlencode({key: _text(one) for key, one in dict(value).items()}).encode()
        if body is not None:
            headers["Content-Type"] = operation.form
        query += self.query.items()
        return f"{self.url}{path}{'?' + urlencode(query, quote_via=quote) if query else ''}", headers, body

    async def _tried(self, operation: Operation, url: str, headers: dict[str, str], body: bytes | None) -> Outcome:
        import aiohttp
        from yarl import URL

        every = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1", **headers, **self.headers}
        limit = aiohttp.ClientTimeout(total=self.timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(
                    operation.method,
                    URL(url, encoded=True),
                    data=body,
                    headers=every,
                    allow_redirects=False,
                    proxy=_proxy_for(url),
                ) as answer,
            ):
                return self._outcome(operation, answer.status, *await _body(answer))
        except aiohttp.ClientConnectorError as error:
            raise _Again(self.clean(str(error))) from None
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            said = self.clean(str(error)) or f"no complete answer within {self.timeout:g} s"
            if operation.method in _SAFE:
                raise _Again(said) from None
            raise RecordError(f"{operation.method} {operation.path}: {said}", reason="tool unavailable") from None

    def _outcome(self, operation: Operation, status: int, text: str, whole: bool) -> Outcome:
        text = self.clean(text)
        if not whole:  # where it was cut there may be half a secret
            text = text[: -max(map(len, self.secrets), default=1)]
        if status == 401:
            raise RunError(
                f"{operation.method} {self.url}{operation.path} answered 401: {text[:300]!r}. "
                "Give its credentials: openapi(..., headers={'Authorization': ...}) or query={...}"
            )
        if status in _TRANSIENT:
            if status in _NOT_TAKEN or operation.method in _SAFE:
                raise _Again(f"answered {status}: {text[:300]!r}")
            raise RecordError(
                f"{operation.method} {operation.path} answered {status}: {text[:300]!r}", reason="tool unavailable"
            )
        if status >= 300:
            return Outcome(f"Error: HTTP {status}: {text}".rstrip(": "), failed=True)
        return Outcome(text or f"HTTP {status}")


def service(base_url: str, headers: Mapping[str, str], query: Mapping[str, str], timeout: float, tries: int) -> Service:
    """The service at a URL.

    Raises:
        ConfigError: the URL is none, or holds credentials or a query; a header that cannot be sent.
    """
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable, parts = None, urlsplit("")
    if not usable:
        raise ConfigError("the base URL is no http URL; expected one like https://api.example.org/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"the base URL at {parts.hostname} holds credentials, a query or a fragment: "
            "pass openapi(..., headers={...}) or query={...} instead"
        )
    if timeout <= 0 or tries < 1:
        raise ConfigError(f"openapi(timeout={timeout}, tries={tries}): expected a positive time and at least one try")
    for name, value in headers.items():
        if not value.isprintable() or not name.isascii():
            raise ConfigError(f"the header {name!r} holds a line break or another control character")
    values = [*headers.values(), *(word for value in headers.values() for word in value.split()), *query.values()]
    secrets = {form for value in values if len(value) >= _SHORTEST for form in (value, quote(value, safe=""))}
    return Service(base_url.rstrip("/"), headers, query, tuple(sorted(secrets, key=len, reverse=True)), timeout, tries)


async def _body(answer: aiohttp.ClientResponse) -> tuple[str, bool]:
    """What came back as text, what is none by its name; and whether that is all of it."""
    read = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        read += chunk
        if len(read) > _LONGEST:
            break
    kind = answer.content_type
    if kind.startswith(("image/", "audio/", "video/", "application/octet-stream", "application/pdf")):
        return f"({kind}, {len(read)} bytes)" if read else "", True
    try:
        text = bytes(read[:_LONGEST]).decode(answer.charset or "utf-8", errors="replace")
    except LookupError:  # a charset that nobody knows
        text = bytes(read[:_LONGEST]).decode(errors="replace")
    return text, len(read) <= _LONGEST


def _text(value: Any) -> str:
    """A value as a URL has it."""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _segment(name: str, value: Any) -> str:
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    if not text or {".", ".."} & set(re.split(r"[/\\]", text)):
        raise ValueError(f"{name}: {text!r} cannot be a part of a path")
    return quote(text, safe="")


def _header(name: str, value: Any) -> str:
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    if not text.isprintable() or not text.isascii():
        raise ValueError(f"{name}: {text[:80]!r} cannot be the value of a header")
    return text


def _pairs(place: Place, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if place.deep and isinstance(value, dict):
        return [(f"{place.name}[{key}]", _text(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return (
            [(place.name, _text(one)) for one in value]
            if place.explode
            else [(place.name, ",".join(map(_text, value)))]
        )
    if isinstance(value, dict) and place.explode:
        return [(key, _text(inner)) for key, inner in value.items()]
    return [(place.name, _text(value))]


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this URL."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    found = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return f"http://{found}" if found and "://" not in found else found
