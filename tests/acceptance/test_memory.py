"""Memory is bounded by what is in flight and not by the number of records."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("memory.py")
WHOLE = bool(os.environ.get("SYNTHKD_TEST_MEMORY"))
"""Whether to run on 20,000 records, which takes a minute; else on fewer, with the same bound for each of them."""


class _Quick(asyncio.Protocol):
    """The least that a client takes for a chat endpoint, so that the server is not what the test waits for."""

    numbers = count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._left = transport, b""

    def data_received(self, data: bytes) -> None:
        self._left += data
        while (end := self._left.find(b"\r\n\r\n")) >= 0:
            head = self._left[:end].lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self._left) < end + 4 + size:
                return
            asked, self._left = self._left[end + 4 : end + 4 + size], self._left[end + 4 + size :]
            text = b"reply %d " % next(self.numbers) + b"x" * 200
            choice = b'{"index":0,"finish_reason":"stop","message":{"content":"%s"}}' % text
            choices = b",".join([choice] * (2 if b'"n":2' in asked else 1))
            body = b'{"model":"m","choices":[%s],"usage":{"prompt_tokens":9,"completion_tokens":9}}' % choices
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)  # type: ignore[attr-defined]


@pytest.fixture
def quick_url() -> Iterator[str]:
    """The base URL of a server that answers as fast as Python can."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        server = await loop.create_server(_Quick, "127.0.0.1", 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield f"http://127.0.0.1:{ports[0]}/v1"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def peak(folder: Path, url: str, records: int) -> float:
    """Megabytes that the program had at most."""
    command = [sys.executable, str(PROGRAM), str(folder), url, str(records)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_more_records_do_not_need_more_memory(quick_url: str, tmp_path: Path) -> None:
    few, many, allowed = (2_000, 20_000, 100.0) if WHOLE else (1_100, 3_300, 40.0)
    small, large = peak(tmp_path / "few", quick_url, few), peak(tmp_path / "many", quick_url, many)
    print(f"peak of {few:,} records: {small:.0f} MB, of {many:,}: {large:.0f} MB")
    assert large - small < allowed
