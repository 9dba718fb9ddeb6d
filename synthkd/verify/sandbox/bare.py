"""Programs without a sandbox: the only place that runs one on this machine as it is, where the user said `unsafe`.

It gets a temporary folder, an empty environment, a session of its own and limits, and it is killed with all that it
started, as far as that is found. That stops accidents. It stops nobody who means harm: files and network are open.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from synthkd.verify.sandbox import start, weight
from synthkd.verify.sandbox.interpreter import Interpreter
from synthkd.verify.sandbox.limits import Job, Outcome
from synthkd.verify.sandbox.watch import Command, attend


@dataclass(frozen=True)
class Bare:
    """Runs each program as an ordinary process."""

    python: Interpreter

    def run(self, job: Job) -> Outcome:
        """Run one program; blocks until its end."""
        mark = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="synthkd-", ignore_cleanup_errors=True) as folder:
            for name, content in job.files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            own = start.arguments(job.limits, mark, folder, self.python.executable, processes=None, strict=False)
            command = Command([self.python.base, *own], mark.encode(), job.stdin, folder=folder, kill=_kill)
            return attend(command, job.limits)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its session and its descendants."""
    below = weight.tree(process.pid)[1:] if process.poll() is None else []
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
