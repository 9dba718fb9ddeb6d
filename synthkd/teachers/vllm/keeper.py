"""The keeper of a vLLM server: starts it, and ends it with all its children once whoever asked for it is gone.

Run as a file, with nothing but the standard library: `python keeper.py RECORDS NAME COMMAND...`. Its standard input is
a pipe from the driver; a driver that ends, however it ends, closes the pipe. While it lives, a file in the folder
RECORDS says so; should it be killed, that file tells the next start whose processes may be left. Invariant: when the
keeper ends, no process that the server has started is left, and no record.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

_GRACE = 10.0
"""Seconds between asking the processes to end and ending them."""
_ADOPTS_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> int:
    """Keep the command; its exit status."""
    record = _recorded(sys.argv[1], sys.argv[2])
    on_linux = sys.platform.startswith("linux")
    if on_linux:
        ctypes.CDLL(None).prctl(_ADOPTS_ORPHANS, 1, 0, 0, 0)
    server = subprocess.Popen(sys.argv[3:], stdin=subprocess.DEVNULL, preexec_fn=_tied if on_linux else None)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    while server.poll() is None and not over.wait(0.1):
        pass
    _end(server, _GRACE if server.poll() is None else 0.0)
    if record:
        os.unlink(record)
    return server.returncode if server.returncode is not None else 1


def boot() -> str:
    """Which start of the machine this is; process ids mean nothing after another."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _recorded(folder: str, name: str) -> str:
    """The file that says who keeps what for whom; empty where none can be written."""
    path = os.path.join(folder, f"{os.getpid()}.json")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "w") as file:
            json.dump({"keeper": os.getpid(), "driver": os.getppid(), "boot": boot(), "name": name}, file)
    except OSError:
        return ""
    return path


def _tied() -> None:
    """In the server: end with the keeper, should that be killed."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _listen(over: threading.Event) -> None:
    while os.read(0, 4096):  # nothing is ever written; it ends when the pipe does
        pass
    over.set()


def _end(server: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ask everything below to end, and end what has not after so many seconds."""
    deadline = time.monotonic() + grace
    signals = [signal.SIGTERM]
    while left := _below(os.getpid()) or ([server.pid] if server.poll() is None else []):
        number = signals.pop() if signals else signal.SIGKILL if time.monotonic() > deadline else None
        if number is not None:
            for process in left:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    pass
        server.poll()
        _reap()
        time.sleep(0.05)
    server.wait()


def _below(root: int) -> list[int]:
    """All processes that descend from one and still live."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:  # no Linux: the server itself is all that is known
        return []
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    wanted = [root]
    while wanted:
        more = children.get(wanted.pop(), [])
        found += more
        wanted += more
    return found


def _reap() -> None:
    """Let go of what has ended and was adopted."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
