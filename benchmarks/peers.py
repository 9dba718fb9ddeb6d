"""Other frameworks, where they are installed: the only place that knows how their drivers are found.

A folder holds `peers.json`: `{"name": "python driver.py --option", ...}`, commands relative to that folder. A driver
takes `--n --url --concurrency --dir [--structured]` and prints a line `RESULT {"wall_s": ..., "cpu_ms_per_req": ...,
"ok": ..., "lost": ...}`. None of them is part of this project.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path


def installed(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Commands by name, and for those that cannot run the reason."""
    try:
        listed: dict[str, str | list[str]] = json.loads((folder / "peers.json").read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{folder / 'peers.json'}: {error}; expected {{name: command line}}") from None
    commands: dict[str, list[str]] = {}
    absent: dict[str, str] = {}
    for name, line in listed.items():
        words = shlex.split(line) if isinstance(line, str) else list(line)
        program = shutil.which(words[0], path=None) or shutil.which(str(folder / words[0]))
        missing = [word for word in words[1:2] if word.endswith(".py") and not (folder / word).is_file()]
        if program is None:
            absent[name] = f"{words[0]} is not there"
        elif missing:
            absent[name] = f"{folder / missing[0]} is not there"
        else:
            commands[name] = [program, *words[1:]]
    return commands, absent
