"""What became of a run: the only place that asks a run's file for it without being the run.

The file is opened read-only and read in one transaction, so the figures agree with each other while a run writes, after
a kill, and from a folder that belongs to somebody else. Invariant: nothing in the run's folder is changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synthkd.errors import ConfigError, RunFolderError

_STAGES = (
    "SELECT s.number, s.name, s.strategy, s.input, s.complete, s.seconds, COUNT(l.id), COALESCE(SUM(l.outputs), 0)"
    " FROM stages s LEFT JOIN ledger l ON l.stage = s.number GROUP BY s.number ORDER BY s.number"
)
_REJECTED = (
    "SELECT stage, reason, COUNT(*) FROM ledger WHERE reason IS NOT NULL GROUP BY stage, reason ORDER BY 1, 3 DESC, 2"
)
_DROPPED = (
    "SELECT l.stage, j.key, SUM(j.value) FROM ledger l, json_each(l.dropped) j WHERE l.dropped IS NOT NULL"
    " GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
)
_CALLS = (
    "SELECT s.teacher, s.prompt, s.sampling, COUNT(*), SUM(c.prompt_tokens), SUM(c.completion_tokens),"
    " SUM(c.reasoning_tokens), SUM(c.cached_tokens), AVG(c.seconds),"
    " CASE WHEN COUNT(c.cost) = COUNT(*) THEN SUM(c.cost) END FROM calls c JOIN sources s ON s.id = c.source"
    " GROUP BY c.source ORDER BY c.source"
)
_EXAMPLES = (
    "SELECT stage, id, reason, detail, body FROM (SELECT stage, position, id, reason, detail, body,"
    " ROW_NUMBER() OVER (PARTITION BY stage, reason ORDER BY position) AS n FROM ledger WHERE reason IS NOT NULL)"
    " WHERE n <= ? ORDER BY stage, reason, position"
)


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage and its ledger."""

    number: int
    name: str
    strategy: str
    input: str
    complete: bool
    """False while it is being worked on, and when the run stopped in it."""
    seconds: float | None
    records_in: int
    records_out: int
    rejected: dict[str, int] = field(default_factory=dict)
    """Rejected inputs by reason, the most frequent first."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Draws lost while others of the same request succeeded, by reason."""


@dataclass(frozen=True, slots=True)
class CallReport:
    """All calls of one combination of teacher, prompt and sampling."""

    teacher: str
    prompt: str
    """Name and digest of the template."""
    sampling: str
    """JSON text of what was set."""
    completions: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    seconds: float | None
    """Mean time of a call."""
    cost: float | None
    """US dollars; None where the price of any of them is unknown."""


@dataclass(frozen=True, slots=True)
class RejectReport:
    """One rejected input."""

    stage: str
    id: str
    reason: str
    detail: str
    """The whole message."""
    body: dict[str, Any]
    """The input's fields."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run so far."""

    run: dict[str, Any]
    """`run.json`; empty where it cannot be read."""
    stages: list[StageReport]
    calls: list[CallReport]
    rejects: list[RejectReport]
    """Examples: the first few of each stage and reason."""

    def asdict(self) -> dict[str, Any]:
        """Plain values, in the shape of `report.json`."""
        return asdict(self)


def read_report(run: str | Path, examples: int = 1) -> RunReport:
    """Read what became of a run.

    Args:
        run: its folder, or its `run.db`.
        examples: how many rejects of each stage and reason are read with message and record.

    Raises:
        ConfigError: there is no run.
        RunFolderError: its file cannot be read.
    """
    path = database_of(run)
    before = _state(path)
    if not before.at_work:
        with suppress(RunFolderError):
            found = _read(path, examples, "mode=ro&immutable=1")
            if _state(path) == before:
                return found
    return _read(path, examples, "mode=ro")


def _read(path: Path, examples: int, mode: str) -> RunReport:
    with _opened(path, mode) as connection:
        stages = {
            number: StageReport(number, name, strategy, source, bool(complete), seconds, came, gave)
            for number, name, strategy, source, complete, seconds, came, gave in connection.execute(_STAGES)
        }
        for stage, reason, count in connection.execute(_REJECTED):
            stages[stage].rejected[reason] = count
        for stage, reason, count in connection.execute(_DROPPED):
            stages[stage].dropped[reason] = count
        calls = [CallReport(*row) for row in connection.execute(_CALLS)]
        rejects = [
            RejectReport(stages[stage].name, id, reason, detail, orjson.loads(body))
            for stage, id, reason, detail, body in connection.execute(_EXAMPLES, (examples,))
        ]
    return RunReport(_description(path.parent), list(stages.values()), calls, rejects)


def database_of(run: str | Path) -> Path:
    """The SQLite file of a run that is named by its folder or by the file itself.

    Raises:
        ConfigError: there is none; the message names those that are near.
    """
    path = Path(run).expanduser()
    file = path if path.is_file() else path / "run.db"
    if file.is_file():
        return file
    found = sorted(str(near.parent) for place in (path, Path("runs")) for near in place.glob("*/run.db"))
    known = f"There is: {', '.join(found[:8])}." if found else "`synthkd run FILE.py` makes one."
    what = "holds no run.db" if path.exists() else "does not exist"
    raise ConfigError(f"{path} {what}; expected the folder of a run. {known}")


@dataclass(frozen=True, slots=True)
class _State:
    """What the file system says about a run's file.

    While somebody writes, and after a kill, SQLite's log lies beside it and must be read too. A reader that expects a
    log leaves an empty one behind, so a file at rest is opened as one that does not change; if it did change, what was
    read is read again.
    """

    at_work: bool
    changed: int


def _state(path: Path) -> _State:
    return _State(path.with_name(f"{path.name}-wal").exists(), path.stat().st_mtime_ns)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection inside one transaction."""
    uri = f"{path.resolve().as_uri()}?{mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.OperationalError as error:
        raise RunFolderError(
            f"{path} cannot be read: {error}. Is it a run of this version of synthkd, and may its folder be read?"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RunFolderError(
            f"{path} is damaged: {error}. Save a copy, and recover what is readable with `sqlite3 run.db .recover`."
        ) from error


def _description(folder: Path) -> dict[str, Any]:
    try:
        found = orjson.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
