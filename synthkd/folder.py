"""A run's folder: the only place that knows its files, locks it, and writes its descriptions.

`run.json` says what the run is, `run.db` holds everything, `report.json` says what became of it. Invariant: no file
here ever holds a key; the descriptions are written aside and renamed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from synthkd.database import Database
from synthkd.errors import RunFolderError, RunLocked
from synthkd.progress import Counters
from synthkd.request import Teacher
from synthkd.stage import Stage


class Folder:
    """The files of one run.

    Raises:
        RunLocked: another process holds the folder.
        RunFolderError: it cannot be written.
    """

    def __init__(self, path: Path, roles: Mapping[str, Teacher], seed: int, about: Mapping[str, Any]) -> None:
        self.path = path
        self.database = path / "run.db"
        self.dataset = path / "dataset"
        self._lock = FileLock(path / "run.lock", timeout=0)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise RunLocked(
                f"{path} is in use by another process. Wait for it to end, stop it, or choose another folder."
            ) from None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}. Choose a folder that can.") from error
        self.description = {
            **about,
            "seed": seed,
            "roles": {role: player.identity for role, player in roles.items()},
            "synthkd": version("synthkd"),
            "python": platform.python_version(),
            "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._write("run.json", self.description)

    def report(self, database: Database, stages: Sequence[Stage[Any]], counters: Counters) -> None:
        """Write `report.json`: every stage with its ledger, every kind of call with its tokens."""
        calls = database.read(
            "SELECT s.teacher, s.prompt, s.sampling, COUNT(*), SUM(c.prompt_tokens), SUM(c.completion_tokens),"
            " SUM(c.reasoning_tokens), SUM(c.cached_tokens) FROM calls c JOIN sources s ON s.id = c.source"
            " GROUP BY c.source ORDER BY c.source"
        )
        names = ("teacher", "prompt", "sampling", "completions", "prompt_tokens", "completion_tokens")
        self._write(
            "report.json",
            {
                "run": self.description,
                "stages": [_stage_line(database, stage) for stage in stages],
                "calls": [dict(zip((*names, "reasoning_tokens", "cached_tokens"), row, strict=True)) for row in calls],
                "this_process": {
                    "calls": counters.calls,
                    "replayed": counters.replayed,
                    "retries": counters.retries,
                    "repairs": counters.repairs,
                },
            },
        )

    def release(self) -> None:
        """Let the next process have the folder."""
        # While it is still held: afterwards it may be the next process's. Some systems refuse, which harms nobody.
        with contextlib.suppress(OSError):
            (self.path / "run.lock").unlink()
        self._lock.release()

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            aside = self.path / f".{name}.writing"
            aside.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str) + b"\n")
            os.replace(aside, self.path / name)
        except OSError as error:
            raise RunFolderError(f"{self.path / name} cannot be written: {error.strerror}.") from error


def _stage_line(database: Database, stage: Stage[Any]) -> dict[str, Any]:
    rows = database.read("SELECT strategy, input, seconds FROM stages WHERE number = ?", (stage.number,))
    strategy, source, seconds = rows[0]
    return {"name": stage.name, "strategy": strategy, "input": source, "seconds": seconds, **asdict(stage.ledger)}


def resume_hint(folder: Path) -> str:
    """What to tell somebody who interrupted a run."""
    command = shlex.join(["python", *sys.argv]) if sys.argv and sys.argv[0].endswith(".py") else shlex.join(sys.argv)
    return f"stopped; everything paid for is kept in {folder}. Resume with: {command}"
