"""Running programs that nobody has read: the only place that chooses a sandbox, and refuses where there is none.

Inside there is no network, no file of this machine but the interpreter with its libraries (read-only), an emptied
environment, and limits on time, memory, processes, output and disk; all of it is gone when the program ends.
Invariants: without a sandbox whose guards were tried and hold nothing runs, unless the caller says `unsafe`, and then a
warning says what that means. Of a program nothing is left on this machine, whatever it did.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from synthkd.errors import ConfigError, RunError
from synthkd.verify.sandbox.aside import aside
from synthkd.verify.sandbox.limits import Limits, Outcome, Status, job

if TYPE_CHECKING:
    from synthkd.verify.sandbox.bare import Bare
    from synthkd.verify.sandbox.bubblewrap import Bubblewrap

__all__ = ["Limits", "Outcome", "Sandbox", "Status", "aside"]

_CURE = (
    "Install bubblewrap: apt-get install bubblewrap (0.7 or newer; or with dnf, pacman, apk). Or, on a machine whose "
    "files and network the programs may have, say Sandbox(unsafe=True)."
)
_lock = Lock()


@dataclass(frozen=True)
class Sandbox:
    """Where programs are run, and what they may use and see.

    Args:
        limits: What each may use.
        python: The interpreter, as a path; by default the one that runs synthkd.
        packages: Whether programs may import what is installed there; else only the standard library.
        readable: Further files and folders that they may read, as absolute paths. Where root begins them, they read
            there what everybody may.
        unsafe: Run them also where there is no sandbox, as ordinary processes of this user, who then answers for what
            they do to files and network.

    Raises:
        ConfigError: `readable` names no absolute path, or one that is not there or is a whole system.

    Reference: Chen et al. 2021, Evaluating Large Language Models Trained on Code, section 2.3, arXiv:2107.03374.
    """

    limits: Limits = field(default_factory=Limits)
    python: str = sys.executable
    packages: bool = True
    readable: tuple[str, ...] = ()
    unsafe: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.readable, str):
            raise ConfigError(
                f"Sandbox(readable={self.readable!r}): expected a tuple of paths, such as ('/data/words',)."
            )
        for path in self.readable:
            if not os.path.isabs(path) or not os.path.exists(path) or os.path.realpath(path) in ("/", "/tmp", "/proc"):
                raise ConfigError(
                    f"Sandbox(readable=...): {path!r}: expected the absolute path of a file or folder that is there, "
                    "and not the whole of /, /tmp or /proc."
                )

    def run(self, program: str, *, stdin: str = "", files: Mapping[str, str] | None = None) -> Outcome:
        """Run a Python program and wait for its end. From a coroutine: `await aside(sandbox.run, program)`.

        Args:
            program: The program.
            stdin: What it reads; its standard input ends after that.
            files: What else lies in its working folder, by relative path.

        Raises:
            ConfigError: There is no sandbox on this machine (and `unsafe` is not set), or an argument is wrong.
            RunError: The sandbox worked before and does not now.
        """
        wanted = job(program, stdin, files, self.limits)
        return self._chosen().run(wanted)

    def ready(self) -> str:
        """The name of what programs will run in: `bubblewrap`, or with `unsafe` perhaps `nothing`.

        Call it at the start of a pipeline that will run programs, so that a missing sandbox shows before a teacher is
        paid. The trial is made once in a process.

        Raises:
            ConfigError: There is none.
        """
        return type(self._chosen()).__name__.lower().replace("bare", "nothing")

    def _chosen(self) -> Bubblewrap | Bare:
        with _lock:
            found = _tried(self.python, self.packages, self.readable)
        if not isinstance(found, str):
            return found
        if not self.unsafe or sys.platform == "win32":
            raise ConfigError(found)
        from synthkd.verify.sandbox.bare import Bare
        from synthkd.verify.sandbox.interpreter import interpreter

        warnings.warn(
            "unsafe=True: programs run without a sandbox; they can read and change this user's files, and use the "
            "network",
            RuntimeWarning,
            stacklevel=3,
        )
        return Bare(interpreter(self.python))


@lru_cache(maxsize=32)
def _tried(python: str, packages: bool, readable: tuple[str, ...]) -> Bubblewrap | str:
    """A sandbox that was tried and holds, or why there is none and what to do."""
    if not sys.platform.startswith("linux"):
        return (
            f"Programs are run in a sandbox, and on {sys.platform} there is none that synthkd knows. Use Linux. {_CURE}"
        )
    from synthkd.verify.sandbox import bubblewrap, probe
    from synthkd.verify.sandbox.interpreter import interpreter

    try:
        sandbox = bubblewrap.Bubblewrap(bubblewrap.found(), interpreter(python), packages, readable)
        amiss = probe.failure(sandbox.run(job(probe.PROGRAM, "", None, probe.LIMITS)))
    except LookupError as error:
        return f"Programs are run in a sandbox, and this machine has none: {error}. {_CURE}"
    except RunError as error:
        return (
            f"Programs are run in a sandbox, and bubblewrap does not work here: {error}. Where that speaks of "
            "permissions or namespaces, allow them: sysctl -w kernel.unprivileged_userns_clone=1 "
            f"kernel.apparmor_restrict_unprivileged_userns=0. {_CURE}"
        )
    if amiss:
        return f"Programs are run in a sandbox, and bubblewrap does not hold here: {amiss}. {_CURE}"
    return sandbox
