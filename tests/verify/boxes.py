"""What tests of sandboxes share: a mark that leaves them out where bubblewrap cannot work at all, and attempts.

Every program is bounded by itself: at most 40 processes that end within 3 seconds, at most 1 GB of memory, at most
50 MB of output. A guard that is broken must not break the machine that tests it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from synthkd.verify import Limits, Outcome, Sandbox


def _works() -> bool:
    path = shutil.which("bwrap")
    if path is None:
        return False
    # any namespace at all: whether synthkd's own guards hold is for the tests to say, not a reason to leave them out
    tried = subprocess.run([path, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "true"], capture_output=True)
    return tried.returncode == 0


boxed = pytest.mark.skipif(not _works(), reason="needs bubblewrap that may make namespaces: apt-get install bubblewrap")

TRY = """
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, act):
    try:
        result = act()
        if result == -1 and ctypes.get_errno():
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        print("BROKE OUT", name, result)
    except Exception as error:
        print("failed", name, type(error).__name__)
"""
CAPABILITIES = """
import ctypes, os

def capabilities():
    data = (ctypes.c_uint32 * 6)()
    number = 125 if os.uname().machine == "x86_64" else 90
    assert ctypes.CDLL(None).syscall(number, (ctypes.c_uint32 * 2)(0x20080522, 0), data) == 0
    return data[0] | data[1] | data[3] | data[4]  # effective and permitted; the rest needs a file that gives them

"""
FORKS = """
import os, time
born = 0
for _ in range(40):
    try:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    except OSError:
        break
    born += 1
print(born, flush=True)
os._exit(0)
"""


def tried(program: str, limits: Limits | None = None) -> Outcome:
    """What became of attempts, none of which succeeded and of which there was at least one."""
    outcome = Sandbox(limits=limits or Limits()).run(TRY + program)
    assert "BROKE OUT" not in outcome.stdout, outcome.stdout
    assert "failed" in outcome.stdout, outcome
    return outcome


def all_commands() -> str:
    return "\n".join(read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


def read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
