"""What a program weighs: the only place that adds up the memory of a process with all that it started.

A limit on address space is each process's own; sixteen processes have sixteen of them, and files in memory none.
Where the system does not tell (another user's processes), nothing is added, and the other limits hold alone.
"""

from __future__ import annotations

import os
from pathlib import Path

_MOST = 1000
_INODE = 1024
"""Bytes of the kernel that an empty file takes."""


def of(pid: int, *, files: bool) -> int:
    """Memory of a process and its descendants in bytes, by proportional shares, and of the `files` in their `/tmp`."""
    found = tree(pid)
    return sum(_memory(one) for one in found) + (_files(found) if files else 0)


def tree(pid: int) -> list[int]:
    """A process and everything under it, as far as the system tells; the first thousand."""
    found = [pid]
    for one in found:
        try:
            threads = os.listdir(f"/proc/{one}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                children = Path(f"/proc/{one}/task/{thread}/children").read_bytes()
            except OSError:
                continue
            found.extend(int(child) for child in children.split())
        if len(found) > _MOST:
            break
    return found


def _memory(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _files(pids: list[int]) -> int:
    """What the `/tmp` of the innermost process holds, names included."""
    for pid in reversed(pids):
        try:
            held = os.statvfs(f"/proc/{pid}/root/tmp")
        except OSError:
            continue
        return (held.f_blocks - held.f_bfree) * held.f_frsize + (held.f_files - held.f_ffree) * _INODE
    return 0
