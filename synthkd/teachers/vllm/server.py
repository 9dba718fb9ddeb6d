"""One vLLM server: the only place that starts it, waits for it and ends it.

Invariants: it listens on the loopback alone, on a port that was free; it never outlives the driver (`keeper.py`), nor
the next start: what a killed keeper has left is found by its record, said, and ended first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from synthkd.errors import TeacherUnavailable
from synthkd.teachers.vllm import keeper
from synthkd.teachers.vllm.reasons import reason

Say = Callable[[str], None]

_LOG = 200_000
"""Bytes of the log's end that are looked at."""
_NEWS = 10.0
"""Seconds between two words about a server that still starts."""


class Server:
    """A server process, from its start to its end.

    Args:
        name: what it is called when something is said of it.
        command: its command line, without host and port.
        environment: its environment.
        say: who hears how the start goes.
        patience: seconds that it may take to start.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], say: Say, patience: float
    ) -> None:
        self._name = name
        self._say = say
        self._patience = patience
        self._port = _free_port()
        descriptor, log = tempfile.mkstemp(prefix="synthkd-vllm-", suffix=".log")
        self.log = Path(log)
        whole = [sys.executable, keeper.__file__, *command, "--host", "127.0.0.1", "--port", str(self._port)]
        with os.fdopen(descriptor, "wb") as output:
            self._process = subprocess.Popen(
                whole,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for the driver, which ends the server in its own time
            )
        self._record = _Record.write(self._process.pid, name)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            TeacherUnavailable: it ended, or takes too long; with the reason from its log.
        """
        import aiohttp

        began = said = time.monotonic()
        self._say(f"{self._name}: starting, its log is {self.log}")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while True:
                if not self.alive:
                    raise TeacherUnavailable(f"{self._name} did not start: {self.why()}")
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with session.get(f"http://127.0.0.1:{self._port}/health") as response:
                        if response.status == 200:
                            self._say(f"{self._name}: ready after {time.monotonic() - began:.0f} s")
                            return
                now = time.monotonic()
                if now - began > self._patience:
                    await self.end()
                    raise TeacherUnavailable(
                        f"{self._name} did not answer within {self._patience:g} s: {self.why()}. A large model may "
                        "need start_timeout=..."
                    )
                if now - said > _NEWS:
                    said = now
                    self._say(f"{self._name}: starting since {now - began:.0f} s; {_last_line(self._tail())}")
                await asyncio.sleep(0.25)

    def why(self) -> str:
        """What its log says about its end."""
        return reason(self._tail())

    async def end(self) -> None:
        """End it with all its children, and wait for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the keeper hears that
        await asyncio.to_thread(self._process.wait)
        self._record.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)

    def _tail(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


class _Record:
    """Files that say which keepers run, and for whom."""

    @staticmethod
    def folder() -> Path:
        """Where they lie, for this user."""
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(cache) / "synthkd" / "vllm"

    @staticmethod
    def write(process: int, name: str) -> Path:
        """Say that this process keeps a server."""
        path = _Record.folder() / f"{process}.json"
        with suppress(OSError):  # a home that cannot be written costs the next start its knowledge, not this one
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                orjson.dumps({"pid": process, "born": _born(process), "driver": os.getpid(), "name": name})
            )
        return path


def end_orphans(say: Say) -> None:
    """End servers whose driver is gone, as after a keeper that was killed with it; say so."""
    for path in sorted(_Record.folder().glob("*.json")):
        try:
            record = orjson.loads(path.read_bytes())
            process, driver = int(record["pid"]), int(record["driver"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if _born(driver) is not None:
            continue
        left = _session(process)
        for member in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        if left:
            say(f"{record.get('name', 'a vLLM server')}: a server that an earlier run left behind was ended")
        path.unlink(missing_ok=True)


def _session(leader: int) -> list[int]:
    """The processes of a keeper's session: server and children, also after the keeper itself."""
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError):
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == leader and fields[0] != "Z":
                        found.append(int(name))
    return found


def _born(process: int) -> str | None:
    """When a process began, in the system's own count; None where there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        try:
            os.kill(process, 0)
        except (ProcessLookupError, PermissionError):
            return None
        return "" if not Path("/proc/self/stat").exists() else None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[-160:] if lines else "nothing said yet"
