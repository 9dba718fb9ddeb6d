"""The machine under the figures: the only place that starts processes here, gives them their cores, and says what else
ran meanwhile.

Server and driver get different cores where the system allows it. Whatever other processes took during a run is
measured from /proc/stat, so that a disturbed run is known and can be left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
QUIET = 0.15
"""Cores that others may use during a run before it counts as disturbed."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("aiohttp", "uvloop", "orjson", "pydantic", "jinja2")


def cores() -> list[int]:
    """The cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def described() -> dict[str, Any]:
    """Machine, versions, load and date, as they stand beside the figures."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": name,
        "cores": len(cores()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **versions,
        "load_at_start": round(os.getloadavg()[0], 2),
    }


@dataclass(frozen=True)
class Server:
    """A server process of `benchmarks.server`."""

    url: str

    def configure(self, settings: Mapping[str, float]) -> None:
        """Take settings and count from zero."""
        self._get("/configure?" + urlencode(settings))

    def stats(self) -> dict[str, Any]:
        """What it has seen."""
        return self._get("/stats")

    def _get(self, path: str) -> dict[str, Any]:
        with urlopen(self.url + path, timeout=20) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server on the last core, for as long as the block runs."""
    command = [sys.executable, "-m", "benchmarks.server"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _pin(process.pid, cores()[-1:])
    try:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


def measured(command: Sequence[str], cwd: Path, served: Server, log: Path, timeout: float) -> dict[str, Any]:
    """Run a driver away from the server's core; its RESULT, or `error`, with what else the machine did."""
    mine = cores()[:-1] or cores()
    before, server_before, own_before = _busy(), served.stats()["cpu_s"], time.process_time()
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        _pin(process.pid, mine)
        status, usage = _ended(process, timeout)
    wall = time.perf_counter() - began
    stats = served.stats()
    cpu = usage.ru_utime + usage.ru_stime
    others = (_busy() - before) - cpu - (stats["cpu_s"] - server_before) - (time.process_time() - own_before)
    found = _result(log) or {"error": f"exit status {status}; see {log}"}
    return {
        **found,
        "process_peak_mb": round(usage.ru_maxrss / 1024, 1),
        "process_s": round(wall, 3),
        "other_cpu": round(max(0.0, others / wall), 3),
        "server_cpu_ms_per_req": round(1000 * (stats["cpu_s"] - server_before) / max(1, stats["received"]), 4),
        "received": stats["received"],
        "max_in_flight": stats["max_in_flight"],
    }


def _ended(process: subprocess.Popen[bytes], timeout: float) -> tuple[int, Any]:
    """Wait for a process of our own, at no cost; past the timeout its whole session is ended."""

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    alarm = threading.Timer(timeout, end)
    alarm.start()
    _, status, usage = os.wait4(process.pid, 0)
    alarm.cancel()
    end()  # what it may have left behind
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _result(log: Path) -> dict[str, Any] | None:
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if line.startswith("RESULT {"):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    return None


def _pin(process: int, where: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(process, where)


def _busy() -> float:
    """Seconds that all cores together have worked, stolen ones included; 0 where the system does not say."""
    try:
        line = Path("/proc/stat").read_text().split("\n", 1)[0]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS
