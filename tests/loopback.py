"""An OpenAI-compatible server on the loopback, for tests: the only place that fakes the other side of the wire.

It runs in a thread of its own, on an ephemeral port, so that subprocesses reach it as well and outlive nothing. What it
answers, how late, and with which fault is the test's function of a `Call`; whatever is drawn at random there comes from
`call.rng`, which depends on seed, prompt and attempt number alone. It keeps every call, so a test can count what was
asked, how often and when::

    with Loopback(lambda call: Served(status=500) if call.attempt == 1 else call.echo) as server:
        OpenAITeacher("m", base_url=server.url)
        server.calls, server.times[call.key], server.prompts
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from aiohttp import web


@dataclass(eq=False)
class Call:
    """One request as it arrived."""

    body: dict[str, Any]
    headers: Mapping[str, str]
    target: str
    """Path and query, or the whole URL where the server was used as a proxy."""
    attempt: int
    """1 for the first request with this body, 2 for the next, ..."""
    seed: int
    at: float = field(default_factory=time.monotonic)
    done: float | None = None
    """When the last byte of the answer was handed to the socket."""

    @cached_property
    def key(self) -> str:
        """Identity of what was asked: the whole body."""
        return hashlib.blake2b(json.dumps(self.body, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def rng(self) -> random.Random:
        """A fresh generator made of seed, body and attempt number."""
        return random.Random(f"{self.seed}:{self.key}:{self.attempt}")

    @property
    def n(self) -> int:
        """How many choices are asked for."""
        return int(self.body.get("n", 1))

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return next(m["content"] for m in reversed(self.body["messages"]) if m["role"] == "user")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of `response_format`, if there is one."""
        form = self.body.get("response_format")
        return form["json_schema"]["schema"] if form else None

    @property
    def echo(self) -> list[str]:
        """A well-behaved answer: `n` texts that name prompt and place, or JSON that satisfies the schema."""
        if self.schema is None:
            return [f"answer {i} to: {self.prompt}" for i in range(self.n)]
        return [json.dumps(_instance(self.schema, random.Random(f"{self.seed}:{self.key}:{i}"))) for i in range(self.n)]


@dataclass
class Served:
    """What the server does with one call. A test may also give a text, or a list of them, for a plain answer."""

    texts: Sequence[str] | str = ()
    """One choice each; fewer than were asked for is allowed."""
    status: int = 200
    error: str = "no"
    """The message of an error body, where `status` is not 200."""
    code: str | None = None
    """The code of an error body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each choice's message, such as `reasoning`."""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each choice, such as `finish_reason` or `logprobs`."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the usage."""
    body: bytes | None = None
    """The whole body, in place of what the other fields would make."""
    delay: float = 0.0
    """Seconds before the first byte."""
    until: threading.Event | None = None
    """Nothing is answered before this is set."""
    drop: Literal["at once", "midway"] | None = None
    """Reset the connection before the answer, or in the middle of its body."""
    trickle: float = 0.0
    """Seconds between any two bytes of the body."""

    def encoded(self, call: Call) -> bytes:
        """The bytes of the body."""
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": self.error, "code": self.code, "type": "error"}}).encode()
        texts = [self.texts] if isinstance(self.texts, str) else list(self.texts)
        words = sum(len(text.split()) for text in texts)
        choices = [
            {
                "index": i,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text, **self.message},
                **self.choice,
            }
            for i, text in enumerate(texts)
        ]
        asked = sum(len(message["content"].split()) for message in call.body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": words, **self.usage}
        found = {"id": call.key, "object": "chat.completion", "model": call.body["model"], "choices": choices}
        return json.dumps({**found, "usage": usage}).encode()


Behaviour = Callable[[Call], Served | Sequence[str] | str]


class Loopback:
    """The server; a context manager.

    Args:
        behaviour: what to do with a call; by default a well-behaved answer.
        seed: what `call.rng` and `call.echo` depend on.
        port: that of a server that was there before; by default any that is free.
    """

    def __init__(self, behaviour: Behaviour = lambda call: call.echo, *, seed: int = 0, port: int = 0) -> None:
        self.behaviour = behaviour
        self.port = port
        self.seed = seed
        self.calls: list[Call] = []
        """Every call, in order of arrival."""
        self.times: Counter[str] = Counter()
        """How often each key was asked."""
        self.arrived = threading.Condition()
        """Notified at each call."""
        self.failure: Exception | None = None

    @property
    def url(self) -> str:
        """What goes into `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def prompts(self) -> list[str]:
        """The last user turn of each call, in order of arrival."""
        return [call.prompt for call in self.calls]

    @property
    def open(self) -> list[Call]:
        """The calls that are not answered yet."""
        return [call for call in self.calls if call.done is None]

    def forget(self) -> None:
        """Start counting anew."""
        self.calls, self.times = [], Counter()

    def wait_for(self, calls: int, seconds: float = 20.0) -> None:
        """Block until so many calls have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.calls) >= calls, seconds), (
                f"{len(self.calls)} of {calls} calls"
            )

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),), name="loopback")
        self._thread.start()
        assert started.wait(10), "the loopback server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self.failure is not None:  # a test's own mistake shall not look like the server's 500
            raise self.failure

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = runner.addresses[0][1]
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.path.endswith("/v1/models"):
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})
        if not request.path.endswith("/chat/completions"):
            return web.json_response({"error": {"message": f"no such path: {request.path}"}}, status=404)
        call = Call(json.loads(await request.read()), request.headers, request.raw_path, 1, self.seed)
        self.times[call.key] += 1
        call.attempt = self.times[call.key]
        with self.arrived:
            self.calls.append(call)
            self.arrived.notify_all()
        try:
            answer = self.behaviour(call)
        except Exception as error:
            self.failure = error
            raise
        if not isinstance(answer, Served):
            answer = Served(answer)
        await asyncio.sleep(answer.delay)
        while answer.until is not None and not answer.until.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.005)
        response = await self._send(request, answer, answer.encoded(call))
        call.done = time.monotonic()
        return response

    async def _send(self, request: web.BaseRequest, answer: Served, body: bytes) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", **answer.headers}
        if not (answer.drop or answer.trickle):
            return web.Response(status=answer.status, headers=headers, body=body)
        assert request.transport is not None
        if answer.drop == "at once":
            request.transport.abort()
            return web.Response()
        response = web.StreamResponse(status=answer.status, headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        if answer.drop == "midway":
            await response.write(body[: len(body) // 2])
            await asyncio.sleep(0.01)  # let the half arrive before the reset
            request.transport.abort()
            return response
        for byte in body:
            await response.write(bytes([byte]))
            await asyncio.sleep(answer.trickle)
        return response


def _instance(schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any] | None = None) -> Any:
    """A value that satisfies a schema, as far as replies use schemas."""
    root = root or schema
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], rng, root)
    if "enum" in schema or "const" in schema:
        return rng.choice(schema.get("enum") or [schema["const"]])
    if options := schema.get("anyOf"):
        return _instance(options[0], rng, root)
    match schema.get("type"):
        case "object":
            return {name: _instance(value, rng, root) for name, value in schema.get("properties", {}).items()}
        case "array":
            size = max(1, schema.get("minItems", 1))
            return [_instance(schema.get("items", {"type": "string"}), rng, root) for _ in range(size)]
        case "integer" | "number":
            low = schema.get("minimum", 0)
            return rng.randint(int(low), int(schema.get("maximum", low + 9)))
        case "boolean":
            return rng.random() < 0.5
        case _:
            return f"text {rng.randrange(1000)}"
