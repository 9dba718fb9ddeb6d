"""Programs in bubblewrap: the only place that knows `bwrap`, and what a program may see of this machine.

Invariants: a program sees the interpreter with its libraries, read-only, and a folder of its own in memory; no other
file, no process, network, terminal or environment of this machine, not even `/proc`. Nothing outside is writable. Begun
by root, it runs as a user that owns nothing and has no other process, because the kernel counts processes by user and
does not count root's, not even in a user namespace. Begun by anybody else, it runs in a user namespace, where the
kernel counts by namespace.

Reference: https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from synthkd.verify.sandbox import seccomp, start
from synthkd.verify.sandbox.interpreter import Interpreter, seen
from synthkd.verify.sandbox.limits import Job, Outcome
from synthkd.verify.sandbox.watch import Command, attend

_FOLDER = "/tmp/box"
_FIRST_USER = 2_000_000_000
_USERS = 100_000_000
_OWN = 1
"""Processes of the sandbox that count as the program's where both are one user's: the first one in its namespace."""
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class Bubblewrap:
    """Runs each program in a new set of namespaces.

    Args:
        path: Of `bwrap`.
        python: What the program runs in.
        packages: Whether it sees the packages installed there.
        readable: What else it sees, read-only.
    """

    path: str
    python: Interpreter
    packages: bool
    readable: tuple[str, ...]

    def run(self, job: Job) -> Outcome:
        """Run one program; blocks until its end.

        Raises:
            RunError: The sandbox did not come up.
        """
        mark, root = secrets.token_hex(16), os.geteuid() == 0
        user = _FIRST_USER + secrets.randbelow(_USERS) if root else 0
        processes = job.limits.processes + (0 if root else _OWN)
        reading, writing = os.pipe()
        try:
            with _in_memory({**job.files, "": seccomp.program()}) as files:
                rules = files.pop("")
                arguments = [self.path, *_namespaces(root), *self._view(job.limits.disk_mb), *_placed(files)]
                arguments += ["--remount-ro", "/", "--seccomp", str(rules), "--info-fd", str(writing), "--"]
                arguments.append(self.python.base)
                arguments += start.arguments(
                    job.limits, mark, _FOLDER, self.python.executable, user=user, processes=processes
                )
                # no environment for bwrap either: it would be that of the sandbox's first process
                command = Command(arguments, mark.encode(), job.stdin, (*files.values(), rules, writing), info=reading)
                return attend(command, job.limits)
        finally:
            os.close(reading)
            os.close(writing)

    def _view(self, disk_mb: int) -> list[str]:
        """What is visible inside, and how much it may hold."""
        shown = ["--perms", "0755", "--dir", "/dev", "--perms", "1777", "--size", str(2**20), "--tmpfs", "/dev/shm"]
        for name in _DEVICES:
            shown += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        shown += ["--perms", "1777", "--size", str(disk_mb * 2**20), "--tmpfs", "/tmp"]
        links, real = seen([*self.python.places, *(self.python.packages if self.packages else ()), *self.readable])
        shown += _folders([*links, *real])
        for link, to in links.items():
            shown += ["--symlink", to, link]
        for path in real:
            shown += ["--ro-bind", path, path]
        hidden = [] if self.packages else seen(self.python.packages)[1]
        for path in hidden:
            if any(path.startswith(f"{place}/") for place in real):
                shown += ["--perms", "0555", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
        return shown


def found() -> str:
    """The path of `bwrap`.

    Raises:
        LookupError: Programs cannot be run with it here, and why.
    """
    path = shutil.which("bwrap")
    if path is None:
        raise LookupError("bwrap is not installed")
    if not seccomp.known():
        raise LookupError(f"no filter of system calls is known for {os.uname().machine}")
    return path


def _namespaces(root: bool) -> list[str]:
    always = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    always += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "box", "--cap-drop", "ALL"]
    if root:  # both are gone with the step from root to somebody else
        return [*always, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return ["--unshare-user", "--uid", "65534", "--gid", "65534", *always]


def _folders(paths: list[str]) -> list[str]:
    """The folders above paths; those that bwrap would make by itself are closed to all but root."""
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {"/", "/tmp", "/dev"}
    return [word for folder in sorted(above) for word in ("--perms", "0755", "--dir", folder)]


def _placed(files: Mapping[str, int]) -> list[str]:
    """The working folder and what lies in it at first."""
    folders = dict.fromkeys(str(parent) for name in files for parent in reversed(PurePosixPath(name).parents))
    words: list[str] = []
    for folder in folders:
        words += ["--perms", "0777", "--dir", os.path.normpath(f"{_FOLDER}/{folder}")]
    for name, descriptor in files.items():
        words += ["--perms", "0666", "--file", str(descriptor), f"{_FOLDER}/{name}"]
    return words


@contextmanager
def _in_memory(contents: Mapping[str, bytes]) -> Iterator[dict[str, int]]:
    """Contents as files in memory that are gone with their descriptors."""
    opened: dict[str, int] = {}
    try:
        for name, content in contents.items():
            opened[name] = os.memfd_create("synthkd")
            with open(opened[name], "wb", closefd=False) as file:
                file.write(content)
            os.lseek(opened[name], 0, os.SEEK_SET)
        yield dict(opened)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
