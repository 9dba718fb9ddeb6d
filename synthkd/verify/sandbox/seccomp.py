"""System calls that no program in a sandbox needs: the only place that knows their numbers.

Namespaces do not hold everything: vsock reaches the host of a virtual machine from any network namespace, keyrings and
io_uring pass them by, new namespaces give back what was taken, and memory files, shared segments and message queues are
memory that no process is seen to have. Invariant: what is denied here fails with an error in the program and does not
reach the kernel's code for it; a machine whose numbers are not known has no filter, and so no sandbox.

Reference: the kernel's Documentation/userspace-api/seccomp_filter.rst
"""

from __future__ import annotations

import platform
import struct

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The column of the numbers below, and the kernel's AUDIT_ARCH."""
_DENIED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_CLONE, _CLONE3, _SOCKET = (56, 220), 435, (41, 198)
_NEW_NAMESPACES = 0x7E020000
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_X32 = 0x40000000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Where they stand in `struct seccomp_data`; of an argument its lower half, on a little-endian machine."""


def known(machine: str | None = None) -> bool:
    """Whether the numbers of a machine (by default this one) are known."""
    return (machine or platform.machine()) in _MACHINES


def program(machine: str | None = None) -> bytes:
    """The filter as the kernel takes it (`struct sock_filter[]`), for a known machine."""
    column, architecture = _MACHINES[machine or platform.machine()]
    lines = [_line(_LOAD, _ARCHITECTURE), _line(_EQUAL, architecture, yes=1), _line(_RETURN, _KILL)]
    lines.append(_line(_LOAD, _NUMBER))
    lines += [_line(_AT_LEAST, _X32, no=1), _refuse(_ENOSYS)]  # the second table of x86_64, with other numbers
    lines += [_line(_EQUAL, _CLONE3, no=1), _refuse(_ENOSYS)]  # its flags lie in memory; C libraries fall back to clone
    for numbers in _DENIED.values():
        lines += [_line(_EQUAL, numbers[column], no=1), _refuse(_EPERM)]
    lines += [_line(_EQUAL, _CLONE[column], no=4), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_ANY_BIT, _NEW_NAMESPACES, no=1), _refuse(_EPERM), _line(_RETURN, _ALLOW)]
    lines += [_line(_EQUAL, _SOCKET[column], no=len(_FAMILIES) + 2), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_EQUAL, family, yes=len(_FAMILIES) - at) for at, family in enumerate(_FAMILIES)]
    lines += [_refuse(_EAFNOSUPPORT), _line(_RETURN, _ALLOW)]
    return b"".join(lines)


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many to leave out where its comparison holds or does not."""
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(error: int) -> bytes:
    return _line(_RETURN, _ERRNO | error)
