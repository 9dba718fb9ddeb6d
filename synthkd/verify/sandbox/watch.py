"""A program while it runs: the only place that feeds it, reads it, measures it and ends it.

Invariants: when `attend` returns or raises, the process that was started and the namespace it made are gone, and every
pipe is closed. No more of its output is held than its limit. Its time begins with the mark by which the sandbox says
that it is ready, so that a slow sandbox costs no program its time.
"""

from __future__ import annotations

import os
import re
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from synthkd.errors import RunError
from synthkd.verify.sandbox import weight
from synthkd.verify.sandbox.aside import Stopped, stopping
from synthkd.verify.sandbox.limits import Limits, Outcome, Status

_START_SECONDS = 60.0
_TICK = 0.05
_LAST_WORDS = 2.0
"""Seconds that pipes may stay open after the process is gone."""
_BLOCK = 65536
_CHILD = re.compile(rb'"child-pid":\s*([0-9]+)')


@dataclass(frozen=True, slots=True)
class Command:
    """How a sandbox starts a program."""

    arguments: Sequence[str]
    mark: bytes
    stdin: bytes
    descriptors: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    info: int | None = None
    """Where bubblewrap says which process is the first one in the new namespace."""
    kill: Callable[[subprocess.Popen[bytes]], None] = subprocess.Popen.kill


def attend(command: Command, limits: Limits) -> Outcome:
    """Start a program, and stay with it until its end or its limit.

    Raises:
        Stopped: Nobody waits for it any more; the program is dead.
        RunError: The sandbox did not come up.
    """
    try:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(command.environment),
            cwd=command.folder,
            pass_fds=command.descriptors,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise RunError(f"A sandbox cannot be started ({error}); run the same command again when it can.") from error
    watch = _Watch(process, command, limits)
    try:
        watch.until_the_end()
        return watch.outcome()
    finally:
        watch.end()


class _Watch:
    """One process, its three pipes and its clock."""

    def __init__(self, process: subprocess.Popen[bytes], command: Command, limits: Limits) -> None:
        self.process, self.command, self.limits = process, command, limits
        self.stop = stopping()
        self.began: float | None = None
        self.ended: float | None = None
        self.deadline = time.monotonic() + _START_SECONDS
        self.cut: Status | None = None
        self.first: int | None = None
        """Of the namespace's first process, with which everything in it dies: its id."""
        self.first_fd: int | None = None
        self.written = 0
        self.heard: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.selector = selectors.DefaultSelector()
        self.pipes = {"stdin": process.stdin, "stdout": process.stdout, "stderr": process.stderr}
        for name, pipe in self.pipes.items():
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self.selector.register(pipe, selectors.EVENT_WRITE if name == "stdin" else selectors.EVENT_READ, name)

    def until_the_end(self) -> None:
        measured = time.monotonic()
        while not self._over():
            if self._open() or self.ended is not None:
                for key, _ in self.selector.select(_TICK):
                    self._feed() if key.data == "stdin" else self._hear(key.data)
            else:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(_TICK)
            now = time.monotonic()
            if self.stop.is_set():
                raise Stopped
            if self.cut is None and now > self.deadline:
                self._cut_for("timeout")
            elif self.cut is None and self.began and self.ended is None and now - measured >= _TICK:
                # each process has a limit of its own; this one is for all of them
                inside = self.first is not None
                if weight.of(self.first or self.process.pid, files=inside) > self.limits.memory_mb * 2**20:
                    self._cut_for("memory")
                measured = now

    def outcome(self) -> Outcome:
        if self.began is None:
            said = self.heard["stderr"].decode("utf-8", "replace").strip()[-500:]
            raise RunError(
                f"The sandbox did not start a program (exit code {self.process.returncode}): {said or 'no word'}"
            )
        code = self.process.returncode
        code = None if self.cut else code if code >= 0 else 128 - code
        most = self.limits.output_kb * 1024
        out, err = self.heard["stdout"][:most], self.heard["stderr"][:most]
        status = self.cut or _status(code, bytes(err[-400:]))
        seconds = (self.ended or time.monotonic()) - self.began
        return Outcome(status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), code, round(seconds, 3))

    def end(self) -> None:
        """Kill what still runs, wait until all of it is gone, and let go of everything."""
        self._look_for_the_first()
        if self.ended is None:
            self.command.kill(self.process)
            self.process.wait()
        if self.first_fd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.first_fd, signal.SIGKILL)
            _readable(self.first_fd, _START_SECONDS)  # it ends after all others in its namespace
            os.close(self.first_fd)
        self.selector.close()
        for pipe in self.pipes.values():
            if pipe is not None:
                pipe.close()

    def _over(self) -> bool:
        if self.ended is None:
            if self.process.poll() is None:
                return False
            self.ended = time.monotonic()
            self.command.kill(self.process)  # what it left behind
        return not self._open() or time.monotonic() - self.ended > _LAST_WORDS

    def _open(self) -> bool:
        """Whether more output may come."""
        return any(key.data in self.heard for key in self.selector.get_map().values())

    def _feed(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            self.written += os.write(pipe.fileno(), self.command.stdin[self.written : self.written + _BLOCK])
        except BlockingIOError:
            return
        except OSError:  # it reads no more
            self.written = len(self.command.stdin)
        if self.written >= len(self.command.stdin):
            self.selector.unregister(pipe)
            pipe.close()

    def _hear(self, name: str) -> None:
        pipe = self.pipes[name]
        assert pipe is not None
        try:
            block = os.read(pipe.fileno(), _BLOCK)
        except BlockingIOError:
            return
        if not block:
            self.selector.unregister(pipe)
        elif self.cut is None:
            self.heard[name] += block
        if self.began is None:
            self._look_for_the_mark()
        elif self.cut is None and sum(map(len, self.heard.values())) > self.limits.output_kb * 1024:
            self._cut_for("output")

    def _look_for_the_mark(self) -> None:
        _, mark, after = self.heard["stderr"].partition(self.command.mark)
        if mark:
            self.heard["stderr"] = after
            self.began = time.monotonic()
            self.deadline = self.began + self.limits.seconds
            self._look_for_the_first()

    def _look_for_the_first(self) -> None:
        if self.command.info is None or self.first is not None:
            return
        if _readable(self.command.info, 0) and (said := _CHILD.search(os.read(self.command.info, 4096))):
            self.first = int(said[1])
            with suppress(ProcessLookupError):
                self.first_fd = os.pidfd_open(self.first)

    def _cut_for(self, reason: Status) -> None:
        self.cut = reason
        self.command.kill(self.process)


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select() knows no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def _status(code: int | None, last_words: bytes) -> Status:
    if code == 0:
        return "ok"
    if code == 128 + signal.SIGXCPU:
        return "timeout"
    last = last_words.strip().rsplit(b"\n", 1)[-1]
    return "memory" if last.startswith((b"MemoryError", b"numpy._core._exceptions._ArrayMemoryError")) else "failed"
