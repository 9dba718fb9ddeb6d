"""The first program in every sandbox: the only place that lowers the limits and hands over to the user's program.

Invariant: when the user's program begins, its limits are set, it has no privilege left and no environment but the one
written here, and the mark that says so is out. The text runs inside; nothing in it is imported by anybody.
"""

from __future__ import annotations

import math

from synthkd.verify.sandbox.limits import MAIN, Limits

TEXT = """
import os, resource, sys
folder, mark, user, strict, limits, python = sys.argv[1:7]
for pair in limits.split(","):
    name, most = pair.split("=")
    kind, most = getattr(resource, "RLIMIT_" + name), int(most)
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        if strict:
            raise
if int(user):
    os.setgroups([])
    os.setresgid(int(user), int(user), int(user))
    os.setresuid(int(user), int(user), int(user))
os.umask(0o022)
os.chdir(folder)
os.write(2, mark.encode())
os.execve(python, [python, *sys.argv[7:]], {ENVIRONMENT})
"""
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # sets in one order in every run, so that a verdict is the same again
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def arguments(
    limits: Limits, mark: str, folder: str, python: str, *, user: int = 0, processes: int | None, strict: bool = True
) -> list[str]:
    """What follows the path of a Python so that it starts the program in a folder.

    Args:
        limits: What it may use.
        mark: What is said on standard error when all is ready.
        folder: The working folder.
        python: The program's interpreter.
        user: Who to become, where it begins as root; 0 stays who it is.
        processes: The limit on this user's processes; `None` leaves it as it is.
        strict: Whether a limit that cannot be set is an error.
    """
    size = limits.memory_mb * 2**20
    rlimits = {
        "AS": size,
        "CPU": math.ceil(limits.seconds) + 1,
        "FSIZE": limits.disk_mb * 2**20,
        "NOFILE": 128,  # what pipes and sockets hold is memory that no process is seen to have
        "CORE": 0,
        "MEMLOCK": 0,
    }
    if processes is not None:
        rlimits["NPROC"] = processes
    environment = {**_ENVIRONMENT, "HOME": folder, "TMPDIR": folder}
    text = TEXT.replace("{ENVIRONMENT}", repr(environment))
    written = ",".join(f"{name}={most}" for name, most in rlimits.items())
    own = [folder, mark, str(user), "strict" if strict else "", written, python]
    return ["-I", "-S", "-c", text, *own, "-s", "-B", "-X", "utf8", MAIN]
