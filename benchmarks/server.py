"""A loopback chat endpoint for the benchmarks: the only place that plays the other side of the wire here.

It runs as a process of its own, on a core of its own, and does as little as it can: no JSON is parsed, replies are cut
from prepared bytes. Latency is constant; whether an attempt fails, and how, is a pure function of seed, prompt and
attempt number, so that every client meets the same faults whatever its order::

    python -m benchmarks.server --port 8765 --latency-ms 50 --p429 0.05
    GET /configure?latency_ms=50&p429=0.05    the settings, everything else back to its default, all counts at zero
    GET /stats                                what arrived, what was answered, the server's own CPU time
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b, sha256
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_WORDS = b"the records of a small town lie in long tables that were written by hand each winter and read by few "
_ASKS_FOR_JSON = (b'"response_format"', b'"tools"')
_MARK, _MARK_END = b"<<id:", b">>"


@dataclass(frozen=True)
class Settings:
    """How the server behaves."""

    latency_ms: float = 0.0
    """From the last byte of a request to the first of its answer."""
    p429: float = 0.0
    """Share of attempts answered 429 with `Retry-After`, whatever the load."""
    p500: float = 0.0
    """Share of attempts answered 500."""
    malformed: float = 0.0
    """Share of JSON replies that are unusable: half of them cut within a value, half without a field."""
    retry_after: float = 1.0
    """Seconds that a 429 asks for; 0 sends no such header."""
    error_latency_ms: float = 5.0
    max_concurrent: int = 0
    """Requests taken at a time; one more is answered 429. 0 takes all."""
    rps: float = 0.0
    """Requests taken a second; one more is answered 429. 0 takes all."""
    seed: int = 1

    @property
    def faulty(self) -> bool:
        """Whether any attempt may fail."""
        return bool(self.p429 or self.p500 or self.malformed)


@dataclass
class Counts:
    """What happened since the last `/configure`."""

    received: int = 0
    ok: int = 0
    malformed: int = 0
    aborted: int = 0
    """Answers that nobody waited for any more."""
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    attempts: dict[bytes, int] = field(default_factory=dict)

    def shown(self) -> dict[str, object]:
        """Everything but the attempts of each prompt."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "attempts"}
        asked_again = sum(1 for count in self.attempts.values() if count > 1)
        return {**found, "prompts": len(self.attempts), "asked_again": asked_again, "cpu_s": time.process_time()}


def answer_to(mark: bytes) -> bytes:
    """What the answer to a prompt with this mark (`<<id:7>>`) begins with, so that a client can be checked."""
    return sha256(mark).hexdigest()[:16].encode()


def _http(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        more,
        len(body),
        body,
    )


def _completion(content: str) -> tuple[bytes, bytes]:
    """A whole response, split where the answer's 16 characters go."""
    message = {"role": "assistant", "content": content}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 80, "completion_tokens": 200, "total_tokens": 280},
    }
    before, after = _http(b"200 OK", json.dumps(body).encode()).split(b"0123456789abcdef")
    return before, after


_FILLER = (_WORDS * 10).decode()
_VALUE = json.dumps({"answer": "0123456789abcdef", "text": _FILLER})
_PLAIN = _completion(f"answer:0123456789abcdef {_FILLER}")
_JSON = _completion(_VALUE)
_FENCED = _completion(f"```json\n{_VALUE}\n```")
_CUT = _completion(_VALUE[: len(_VALUE) * 6 // 10])
_LACKING = _completion(json.dumps({"answer": "0123456789abcdef"}))
_ERROR = _http(b"500 Internal Server Error", b'{"error":{"message":"a fault, as agreed","code":null}}')
_NOT_FOUND = _http(b"404 Not Found", b'{"error":{"message":"POST /v1/chat/completions"}}')
_MODELS = _http(b"200 OK", b'{"object":"list","data":[{"id":"mock","object":"model"}]}')


class Server:
    """Settings, counts, and the decision what becomes of a request."""

    def __init__(self, settings: Settings) -> None:
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take settings and count from zero."""
        self.settings = settings
        self.counts = Counts()
        self._tokens, self._filled = settings.rps, time.monotonic()
        self._busy = _http(
            b"429 Too Many Requests",
            b'{"error":{"message":"slower, please","code":"rate_limit_exceeded"}}',
            b"retry-after: %g\r\n" % settings.retry_after if settings.retry_after else b"",
        )

    def decide(self, body: bytes) -> tuple[int, bytes, float]:
        """Status, response, and seconds until it goes out."""
        settings, counts = self.settings, self.counts
        counts.received += 1
        mark = _mark_in(body)
        attempt = counts.attempts[mark] = counts.attempts.get(mark, 0) + 1
        late = settings.error_latency_ms / 1000
        if self._over_a_ceiling():
            return 429, self._busy, late
        wants_json = any(word in body for word in _ASKS_FOR_JSON)
        parts = _JSON if wants_json else _FENCED if b"```json" in body or b"JSON schema" in body else _PLAIN
        if settings.faulty:
            draw = _draw(settings.seed, mark, attempt)
            if draw < settings.p429:
                return 429, self._busy, late
            if draw < settings.p429 + settings.p500:
                return 500, _ERROR, late
            if wants_json and draw < settings.p429 + settings.p500 + settings.malformed:
                counts.malformed += 1
                parts = _CUT if _draw(settings.seed, mark, -attempt) < 0.5 else _LACKING
        return 200, parts[0] + answer_to(mark) + parts[1], settings.latency_ms / 1000

    def _over_a_ceiling(self) -> bool:
        settings = self.settings
        if settings.max_concurrent and self.counts.in_flight >= settings.max_concurrent:
            return True
        if settings.rps:
            now = time.monotonic()
            self._tokens = min(settings.rps, self._tokens + (now - self._filled) * settings.rps)
            self._filled = now
            if self._tokens < 1:
                return True
            self._tokens -= 1
        return False

    def tell(self, target: str) -> bytes:
        """The answer to a GET."""
        place = urlsplit(target)
        if place.path == "/configure":
            kinds: dict[str, Callable[[str], Any]] = {"max_concurrent": int, "seed": int}
            self.configure(Settings(**{name: kinds.get(name, float)(v) for name, v in parse_qsl(place.query)}))
        elif place.path.endswith("/models"):
            return _MODELS
        elif place.path != "/stats":
            return _NOT_FOUND
        told = {**self.counts.shown(), "settings": asdict(self.settings)}
        return _http(b"200 OK", json.dumps(told).encode())


def _mark_in(body: bytes) -> bytes:
    """The mark of the last turn that has one; else what the whole body boils down to."""
    start = body.rfind(_MARK)
    if start < 0:
        return blake2b(body, digest_size=16).digest()
    return body[start : body.find(_MARK_END, start) + len(_MARK_END)]


def _draw(seed: int, mark: bytes, attempt: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return int.from_bytes(blake2b(b"%d:%d:%b" % (seed, attempt, mark), digest_size=8).digest()) / 2**64


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out after their latency."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, end + 2)
            after = end + 4 + (int(length[1]) if length else 0)
            if len(data) < after:
                break
            if data.startswith(b"POST"):
                self._take(data[end + 4 : after])
            else:
                self._transport.write(self._server.tell(data[: data.find(b"\r\n")].split()[1].decode()))
            data = data[after:]
        self._rest = data

    def _take(self, body: bytes) -> None:
        counts = self._server.counts
        status, response, delay = self._server.decide(body)
        counts.in_flight += 1
        if counts.in_flight > counts.max_in_flight:
            counts.max_in_flight = counts.in_flight
        if delay:
            self._loop.call_later(delay, self._answer, counts, status, response)
        else:
            self._answer(counts, status, response)

    def _answer(self, counts: Counts, status: int, response: bytes) -> None:
        counts.in_flight -= 1
        if self._transport.is_closing():
            counts.aborted += 1
            return
        counts.statuses[status] += 1
        counts.ok += status == 200
        self._transport.write(response)


async def serve(port: int, settings: Settings) -> None:
    """Serve on the loopback until the process is ended; the first line printed names the port."""
    loop = asyncio.get_running_loop()
    server = Server(settings)
    listening = await loop.create_server(lambda: Connection(server, loop), "127.0.0.1", port, backlog=2048)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A loopback chat endpoint for benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    for place in fields(Settings):
        parser.add_argument(f"--{place.name.replace('_', '-')}", type=type(place.default), default=place.default)
    given = vars(parser.parse_args())
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    port = given.pop("port")
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(serve(port, Settings(**given)))
    else:
        uvloop.run(serve(port, Settings(**given)))


if __name__ == "__main__":
    main()
