"""Teachers behind an OpenAI-compatible HTTP endpoint: the only place that speaks this wire format.

The road of a single call goes below the openai SDK, straight to aiohttp, because the SDK costs several times the CPU
of everything else together (see benchmarks/). Invariant: a key is sent in the request's header and appears nowhere
else: not in the identity, an error, a log or a file.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import orjson

from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable, Transient
from synthkd.request import Completion, Limits, Request, Sampling
from synthkd.teachers.wire import completions_in, loads, retry_after, strict_schema

if TYPE_CHECKING:
    import aiohttp

OPENAI_URL = "https://api.openai.com/v1"
_RETRIED = frozenset({408, 409, 425, 429})
_REFUSES_ALL = {
    401: "The key is missing or wrong.",
    403: "The key may not use this model or endpoint.",
    404: "The model or the URL does not exist there.",
}


class OpenAITeacher:
    """A model behind any OpenAI-compatible chat endpoint: OpenAI, vLLM, OpenRouter, Together, llama.cpp, ...

    Args:
        model: the model's name at the endpoint.
        base_url: such as `http://127.0.0.1:8000/v1`; by default `OPENAI_BASE_URL`, else OpenAI's own. A `user:password@`
            in it is sent as basic authentication, its query with every call; neither is part of the identity.
        api_key: by default `OPENAI_API_KEY` for OpenAI's endpoint (or the one in `OPENAI_BASE_URL`), and
            `SYNTHKD_API_KEY` for any other, so that one provider's key never reaches another. None there is no key.
        sampling: defaults for what requests leave open.
        native_schema: the endpoint enforces `response_format` JSON schemas; else the schema is written into the prompt.
        max_in_flight: calls on their way at the same time.
        tries: attempts per call before a transient failure becomes final.
        timeout: seconds for one call, from connecting to the last byte.
        headers: further headers of every request; their values count as secret.

    Raises:
        ConfigError: no key for an endpoint that needs one, or a URL that is none.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        native_schema: bool = True,
        max_in_flight: int = 256,
        tries: int = 8,
        timeout: float = 600.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if max_in_flight < 1 or tries < 1 or timeout <= 0:
            raise ConfigError("max_in_flight and tries must be at least 1, timeout must be positive")
        url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        self.model = model
        self._endpoint, self._url, login = _taken_apart(url)
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._secrets = [secret for value in (headers or {}).values() for secret in (value, value.split()[-1:]) if secret]
        self._authorize(api_key, login, own=base_url is None)
        self._timeout = timeout
        self._longest = "max_completion_tokens" if url == OPENAI_URL else "max_tokens"
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self.sampling = sampling or Sampling()
        self.native_schema = native_schema
        self.identity = f"{self._endpoint}#{model}"
        self.limits = Limits(self._endpoint, max_in_flight, tries)

    def __repr__(self) -> str:
        return f"OpenAITeacher({self.model!r}, base_url={self._endpoint!r})"

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Make one call for `n` choices; the server may give fewer.

        Raises:
            Transient: 408, 409, 425, 429, 5xx, a timeout, a lost connection, or a body that is no completion.
            TeacherUnavailable: 401, 403, 404, or the account has no credit left.
            TeacherError: any other refusal of this one request, such as a 400.
        """
        session = await self._connected()
        body = orjson.dumps(self.body(request, n))
        try:
            async with session.post(self._url, data=body) as response:
                status, headers = response.status, response.headers
                content = await response.read()
        except TimeoutError:
            raise Transient(f"{self._endpoint}: no complete answer within {self._timeout:g} s") from None
        except self._errors as error:
            unreachable = isinstance(error, self._errors[1])
            raise Transient(f"{self._endpoint}: {self._clean(str(error))}", unreachable=unreachable) from None
        if status != 200:
            raise self._refusal(status, headers, content)
        try:
            return completions_in(orjson.loads(content))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            start = self._clean(content[:120].decode(errors="replace"))
            raise Transient(
                f"{self._endpoint} answered 200 with something that is no chat completion ({error!r}): {start!r}"
            ) from None

    def body(self, request: Request[Any], n: int = 1) -> dict[str, Any]:
        """The JSON body of the call."""
        body: dict[str, Any] = {"model": self.model, "messages": request.messages}
        if n > 1:
            body["n"] = n
        given = request.sampling.given()
        if "max_tokens" in given:
            body[self._longest] = given.pop("max_tokens")
        if "logprobs" in given:
            alternatives = given.pop("logprobs")
            body["logprobs"] = True
            if alternatives:
                body["top_logprobs"] = alternatives
        body.update(given.pop("extra", {}))
        body.update(given)
        if self.native_schema and request.reply is not str:
            shape, strict = strict_schema(request.reply)
            form = {"name": request.reply.__name__, "schema": shape, "strict": strict}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _connected(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is loop and not self._session.closed:
            return self._session
        import aiohttp

        self._errors = (aiohttp.ClientError, aiohttp.ClientConnectorError, OSError)
        self._loop = loop
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(30.0, self._timeout)),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._url),
        )
        return self._session

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
        said, code = _message(content)
        said = self._clean(said)
        if status == 429 and code == "insufficient_quota":
            return TeacherUnavailable(f"{self._endpoint}: the account has no credit left: {said}")
        if status in _RETRIED or status >= 500:
            return Transient(f"{self._endpoint} answered {status}: {said}", retry_after=retry_after(headers))
        if status in _REFUSES_ALL:
            names = "OPENAI_API_KEY" if self._endpoint == OPENAI_URL else "SYNTHKD_API_KEY"
            return TeacherUnavailable(
                f"{self._endpoint} answered {status} for model {self.model!r}: {said} {_REFUSES_ALL[status]} "
                f"Check the model's name and the URL, and the key ({names} or api_key=...); "
                "`synthkd doctor --teacher ...` tries it."
            )
        hint = ""
        if "response_format" in said:
            hint = " If this server cannot enforce schemas, pass native_schema=False."
        return TeacherError(f"{self._endpoint} answered {status}: {said}{hint}")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


def _key_for(url: str, own: bool) -> str | None:
    """The key that belongs to this endpoint, from the environment."""
    name = "OPENAI_API_KEY" if own or url == OPENAI_URL else "SYNTHKD_API_KEY"
    return os.environ.get(name) or None


def _public(url: str) -> str:
    """The URL without credentials and query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{parts.scheme}://{parts.hostname or ''} is no http URL; expected one like http://127.0.0.1:8000/v1"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def _password(url: str) -> str | None:
    return urlsplit(url).password


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this URL, read once and not per request."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _message(content: bytes) -> tuple[str, str | None]:
    """What an error body says, and its code."""
    text = content[:500].decode(errors="replace").strip()
    try:
        error = orjson.loads(content)
        error = error.get("error", error)
        if isinstance(error, dict):
            return str(error.get("message") or error)[:500], error.get("code") or error.get("type")
        return str(error)[:500], None
    except (ValueError, AttributeError):
        return text or "(no text)", None
