"""Equality of expressions by math-verify: the only place that knows this library.

math-verify limits its time with SIGALRM, which works in a main thread only, takes the alarm of whoever else uses it,
and does not stop a big number on its way. So it lives in a process of its own, one for all threads, that is killed when
it takes too long. Invariant: each question is answered in bounded time and memory; a hanging one harms no other.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from threading import Lock, Timer

from synthkd.errors import ConfigError, MissingExtra

_SECONDS = 5.0
_START_SECONDS = 60.0  # a first import from a slow disk
_MEMORY = 4 * 2**30
_PLAIN_NAMES = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|sec|csc|cot|arcsin|arccos|arctan|log|ln|exp|pi)(?![A-Za-z])")
_PLAIN_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt\s?\(([^()]*)\)")


def equal(answer: str, gold: str) -> bool:
    """Whether two expressions, in LaTeX or plain, are equal; `False` where that takes over 5 seconds or cannot be told.

    Raises:
        MissingExtra: math-verify is not installed.
        ConfigError: It is, and cannot be started.
    """
    return _worker.ask(answer, gold)


class _Worker:
    """The process that holds math-verify, started when it is first asked and again after it was killed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, answer: str, gold: str) -> bool:
        with self._lock:
            for _ in range(2):  # a process that died early may have died of something else than this question
                began = time.monotonic()
                try:
                    reply = self._exchange(self._running(), json.dumps([answer, gold]), _SECONDS)
                except BaseException:  # interrupted: the late reply must not become the next question's
                    self._stop()
                    raise
                if reply is not None:
                    return reply == "true"
                self._stop()
                if time.monotonic() - began >= _SECONDS:
                    break
            return False

    def stop(self) -> None:
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """After a fork: the process and the lock belong to the parent."""
        self._lock, self._process = Lock(), None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            if find_spec("math_verify") is None:
                raise MissingExtra("math-verify", "eval")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
            if self._exchange(self._process, "[]", _START_SECONDS) is None:
                raise ConfigError(
                    "math-verify is installed and does not start; it compares answers symbolically. See why with: "
                    f"{sys.executable} -c 'import math_verify'. Or compare with verify(by=exact)."
                )
        return self._process

    @staticmethod
    def _exchange(process: subprocess.Popen[str], line: str, seconds: float) -> str | None:
        """One line there and one back; `None` where the process died or was killed for its time."""
        assert process.stdin is not None
        assert process.stdout is not None
        limit = Timer(seconds, process.kill)
        limit.daemon = True
        limit.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip() or None
        except OSError:
            return None
        finally:
            limit.cancel()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_worker = _Worker()
atexit.register(_worker.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_worker.forget)


def serve() -> None:
    """Answer questions from standard input, one JSON list `[answer, gold]` a line, until it ends."""
    import logging
    import signal

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end closes our input
    _limit_memory()
    for line in sys.stdin:
        pair = json.loads(line)
        verdict = False
        try:
            if pair:
                answer, gold = (parse(rf"\boxed{{{_latex(text)}}}", parsing_timeout=None) for text in pair)
                verdict = bool(verify(gold, answer, timeout_seconds=None))
        except (Exception, MemoryError, RecursionError):  # whatever the parser or sympy make of a strange text
            verdict = False
        print(json.dumps(verdict), flush=True)  # noqa: T201 - the protocol


def _latex(text: str) -> str:
    """Plain notation that LaTeX would read as products of letters."""
    plain = text.replace("\\$", "").replace("$", "").replace("**", "^")
    return _PLAIN_NAMES.sub(r"\\\1", _PLAIN_ROOT.sub(r"\\sqrt{\1}", plain))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit alone has to do
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    serve()
