"""A run's folder: the only place that knows its files, locks it, and writes its descriptions.

`run.json` says what the run is, `run.db` holds everything, `report.json` says what became of it. Invariant: no file
here ever holds a key; the descriptions are written aside and renamed.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from synthkd.errors import ConfigError, RunFolderError, RunLocked
from synthkd.progress import Counters
from synthkd.report import read_report
from synthkd.request import Teacher
from synthkd.teachers.endpoint import public_arguments


class Folder:
    """The files of one run.

    Raises:
        RunLocked: another process holds the folder.
        RunFolderError: it cannot be written.
        ConfigError: it holds the run of another pipeline.
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
        try:
            self._check_owner(about.get("pipeline"))
        except BaseException:
            self._lock.release()
            raise
        self.description = {
            **about,
            "seed": seed,
            "roles": {role: player.identity for role, player in roles.items()},
            "synthkd": _version(),
            "python": platform.python_version(),
            "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._write("run.json", self.description)

    def _check_owner(self, pipeline: object) -> None:
        """A pipeline's stages replace those that were there, so another one's folder is not taken."""
        try:
            owner = orjson.loads((self.path / "run.json").read_bytes()).get("pipeline")
        except (OSError, ValueError, AttributeError):  # none, or none that can be read
            return
        if pipeline and owner and Path(str(owner)).name != Path(str(pipeline)).name:
            raise ConfigError(
                f"{self.path} holds the run of {owner}, whose stages and dataset {pipeline} would replace. Choose "
                f"another folder (--out), or delete {self.path / 'run.json'} to give this one away."
            )

    def report(self, counters: Counters) -> None:
        """Write `report.json`: every stage with its ledger, every kind of call with its tokens."""
        names = ("calls", "replayed", "retries", "repairs")
        found = read_report(self.path, examples=0).asdict()
        self._write("report.json", {**found, "this_process": {name: getattr(counters, name) for name in names}})

    def release(self) -> None:
        """Let the next process have the folder.

        The lock's file stays: who has opened it already would otherwise hold a file that nobody else can find. An old
        one keeps nobody out, for it is the system that holds the lock, and lets go of it when a process dies.
        """
        self._lock.release()

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            aside = self.path / f".{name}.writing"
            aside.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str) + b"\n")
            os.replace(aside, self.path / name)
        except OSError as error:
            raise RunFolderError(f"{self.path / name} cannot be written: {error.strerror}.") from error


def _version() -> str:
    try:
        return version("synthkd")
    except PackageNotFoundError:  # a checkout that is on the path and not installed
        return "not installed"


def resume_hint(folder: Path) -> str:
    """What to tell somebody who interrupted a run: the command as it was typed, but for keys and passwords."""
    typed = ["python", *sys.argv] if sys.argv and sys.argv[0].endswith(".py") else sys.argv
    shown = public_arguments(typed)
    lacks = "" if shown == typed else " (with the credentials, which are left out here)"
    return f"stopped; everything paid for is kept in {folder}. Resume with: {shlex.join(shown)}{lacks}"
