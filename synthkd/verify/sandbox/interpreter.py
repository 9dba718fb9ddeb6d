"""The Python that programs run in: the only place that asks an interpreter which files it needs.

Invariant: what is shown of this machine is what the interpreter itself names, by folder; never a whole prefix, which
may be somebody's home.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from synthkd.errors import ConfigError

_QUESTION = """
import json, os, site, sys, sysconfig
base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
places = [base, sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")]
places += [os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
places += [sysconfig.get_path("stdlib"), os.path.dirname(os.__file__)]
print(json.dumps([sys.executable, base, places, site.getsitepackages(), sys.version_info[:2]]))
"""
_SYSTEM = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python on this machine."""

    executable: str
    """As it was named; of a virtual environment, the one in it."""
    base: str
    """The real one behind it."""
    places: tuple[str, ...]
    """Files and folders that it needs, its standard library among them."""
    packages: tuple[str, ...]
    """Folders of installed packages."""


@lru_cache(maxsize=32)
def interpreter(python: str) -> Interpreter:
    """What a Python says of itself.

    Raises:
        ConfigError: It does not run, or is older than 3.8.
    """
    try:
        asked = subprocess.run(
            [python, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=True, env={}
        )
        executable, base, places, packages, version = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"Sandbox(python={python!r}): it does not run ({error}); expected the path of a Python interpreter, such "
            "as '/usr/bin/python3'. Leave it out for the one that runs synthkd."
        ) from None
    if version < [3, 8]:
        raise ConfigError(f"Sandbox(python={python!r}): it is Python {version[0]}.{version[1]}; expected 3.8 or newer.")
    there = tuple(dict.fromkeys(place for place in (*_SYSTEM, *places) if os.path.exists(place)))
    return Interpreter(executable, base, there, tuple(place for place in packages if os.path.isdir(place)))


def seen(places: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """How places are reached: the links on the way to them with what they point to, and the real paths, outermost only.

    Args:
        places: Absolute paths that exist.
    """
    links: dict[str, str] = {}
    real: set[str] = set()
    for place in places:
        reached = "/"
        left = place.split("/")[::-1]
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                reached = os.path.dirname(reached)
                continue
            here = os.path.join(reached, part)
            if os.path.islink(here):
                links[here] = os.readlink(here)
                reached = "/" if links[here].startswith("/") else reached
                left += links[here].split("/")[::-1]
            else:
                reached = here
        real.add(reached)
    outermost = sorted(path for path in real if not any(_within(path, other) for other in real))
    return {link: to for link, to in links.items() if not any(_within(link, path) for path in outermost)}, outermost


def _within(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder.rstrip("/") + "/")
