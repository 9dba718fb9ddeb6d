"""Whether a sandbox holds: the only place that tries its guards before any program is trusted to it.

Invariant: a sandbox whose limit on processes does not hold, or that lets a program out to the network, to other files
or to the machine's host, is not used; there is no second best. The trial itself is harmless where they do not hold.
"""

from __future__ import annotations

import json

from synthkd.verify.sandbox.limits import Limits, Outcome

LIMITS = Limits(seconds=20, memory_mb=256, processes=16)
_MOST = 40
"""Processes that the trial starts at the most, each of which ends by itself."""
PROGRAM = f"""
import json, os, resource, socket, time
found = {{"forks": 0, "open": [], "files": [], "memory": resource.getrlimit(resource.RLIMIT_AS)[0]}}
for _ in range({_MOST}):
    try:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    except OSError:
        break
    found["forks"] += 1
for family, address in ((socket.AF_INET, ("192.0.2.1", 9)), (40, (2, 9))):
    try:
        one = socket.socket(family, socket.SOCK_DGRAM if family == socket.AF_INET else socket.SOCK_STREAM)
        one.settimeout(0.01)
        if family == socket.AF_INET:
            one.connect(address)
        found["open"].append(int(family))
    except OSError:
        pass
found["files"] = [path for path in ("/etc/passwd", "/home", "/root/.ssh", "/proc/1", "/sys") if os.path.exists(path)]
print(json.dumps(found), flush=True)
os._exit(0)
"""


def failure(outcome: Outcome) -> str | None:
    """What the trial showed that must not be; `None` for a sandbox that holds."""
    if outcome.status != "ok":
        return f"its trial ended with {outcome.status}: {outcome.stderr.strip()[-300:]}"
    try:
        found = json.loads(outcome.stdout)
    except ValueError:
        return f"its trial printed {outcome.stdout[:100]!r}"
    if not 1 <= found["forks"] < LIMITS.processes:
        return f"its limit of {LIMITS.processes} processes let {found['forks']} more begin"
    if found["memory"] != LIMITS.memory_mb * 2**20:
        return "its limit on memory is not set"
    if found["open"]:
        return f"a program can open sockets to the outside (families {found['open']})"
    if found["files"]:
        return f"a program can see {', '.join(found['files'])}"
    return None
