"""What a program may use and what became of it: the only place that defines a sandbox's limits, jobs and outcomes.

Invariant: a job's files lie in its working folder; a name that leads out of it is refused before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from synthkd.errors import ConfigError

Status = Literal["ok", "failed", "timeout", "memory", "output"]
MAIN = "main.py"
_MOST_FILES = 100
_LEAST = {"memory_mb": 32, "processes": 1, "output_kb": 1, "disk_mb": 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use, with everything that it starts."""

    seconds: float = 10.0
    """Wall-clock time from its first line on; none of its processes gets more CPU time than that either."""
    memory_mb: int = 512
    """Address space of each process, and memory of all of them together with their files."""
    processes: int = 16
    """Processes and threads at a time, its first one among them."""
    output_kb: int = 256
    """Standard output and standard error together."""
    disk_mb: int = 64
    """Its working folder, which is in memory and gone when it ends."""

    def __post_init__(self) -> None:
        seconds = self.seconds
        if not _is_number(seconds) or not math.isfinite(seconds) or seconds <= 0:
            raise ConfigError(f"Limits(seconds={seconds!r}): expected a number above 0.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"Limits({name}={value!r}): expected a whole number, {least} or more.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program."""

    status: Status
    """`ok`: it ended with exit code 0; `failed`: with another; else the limit at which it was ended."""
    stdout: str
    """As UTF-8, with a replacement character where it is none; cut at the limit."""
    stderr: str
    exit_code: int | None
    """128 and the signal's number where a signal ended it; `None` where it was killed at a limit."""
    seconds: float
    """How long it ran, without the sandbox's own start."""


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run. Not for users: `Sandbox.run` makes it."""

    files: Mapping[str, bytes]
    """Everything in its working folder at first, the program `main.py` among it."""
    stdin: bytes = b""
    limits: Limits = field(default_factory=Limits)


def job(code: str, stdin: str, files: Mapping[str, str] | None, limits: Limits) -> Job:
    """A job from a user's arguments.

    Raises:
        ConfigError: The program is no text, a file's name leads out of the working folder or hides the program, or
            there are over 100 files.
    """
    if not isinstance(code, str):
        raise ConfigError(f"A program is text, not {type(code).__name__}.")
    together: dict[str, bytes] = {}
    for name, content in (files or {}).items():
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\0" in name or str(path) in (".", MAIN):
            raise ConfigError(
                f"files: {name!r} is no name for a file beside the program; expected a relative path without '..', "
                f"other than {MAIN!r}, such as 'data/input.txt'."
            )
        together[str(path)] = encoded(content)
    if len(together) > _MOST_FILES:
        raise ConfigError(f"files: {len(together)} are too many; at most {_MOST_FILES} go into a sandbox.")
    return Job({MAIN: encoded(code), **together}, encoded(stdin), limits)


def encoded(text: str) -> bytes:
    """Text as UTF-8; a lone surrogate, which a model's JSON can hold, becomes a question mark."""
    return text.encode("utf-8", "replace")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
