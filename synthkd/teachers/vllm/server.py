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
        kept = [sys.executable, keeper.__file__, str(_records()), name]
        whole = [*kept, *command, "--host", "127.0.0.1", "--port", str(self._port)]
        with os.fdopen(descriptor, "wb") as output:
            self._process = subprocess.Popen(
                whole,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for the driver, which ends the server in its own time
            )

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
        self.log.unlink(missing_ok=True)

    def _tail(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def end_orphans(say: Say) -> None:
    """End servers whose driver is gone, as after a keeper that was killed with it; say so.

    A process is taken for one only where a keeper of this start of the machine was the leader of its session, and what
    it is called has vLLM in it.
    """
    for path in sorted(_records().glob("*.json")):
        try:
            record = orjson.loads(path.read_bytes())
            leader, driver, boot = int(record["keeper"]), int(record["driver"]), record["boot"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if boot == keeper.boot() and (_lives(driver) or _lives(leader)):
            continue
        left = _session(leader) if boot == keeper.boot() else []
        for member in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        if left:
            say(f"{record.get('name', 'a vLLM server')}: a server that an earlier run left behind was ended")
        path.unlink(missing_ok=True)


def _records() -> Path:
    """Where the keepers of this user say that they run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synthkd" / "vllm"


def _session(leader: int) -> list[int]:
    """The processes of vLLM in a keeper's session, also after the keeper itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and b"vllm" in path.with_name("cmdline").read_bytes().lower():
                found.append(int(path.parent.name))
    return found


def _lives(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[-160:] if lines else "nothing said yet"
