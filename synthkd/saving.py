"""From a stage to a dataset on disk: the only place that gathers rows, provenance and the card's facts for `run.save`.

Invariant: rows are streamed, and what the card says is read from the run's file, not remembered.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import orjson

from synthkd.card import CardFacts, StageFacts, TeacherFacts, render
from synthkd.data.columns import Provenance, row
from synthkd.data.saving import write
from synthkd.database import Database
from synthkd.errors import ConfigError, DataError
from synthkd.folder import Folder
from synthkd.stage import Stage

_LIBRARIES = ("synthkd", "datasets", "pydantic", "jinja2")

Source = tuple[str, str, str]
"""Teacher identity, prompt label, sampling as JSON."""


def save_stage(
    database: Database,
    files: Folder,
    stages: Sequence[Stage[Any]],
    stage: Stage[Any],
    target: Path,
    reasoning: Literal["column", "think", "inline"],
) -> Path:
    """Write a stage as a dataset folder and return it.

    Raises:
        DataError: the stage has no rows.
        ConfigError: it belongs to another run.
    """
    if not isinstance(stage, Stage):
        raise ConfigError(
            f"run.save was given a {type(stage).__name__}; expected a stage, what run.map or filter gives"
        )
    if stage.database is not database:
        raise ConfigError(
            f"stage {stage.name!r} belongs to the run in {stage.database.path.parent}, and this is the one in "
            f"{files.path}. Save it with the run that made it, or map or filter it here first."
        )
    if not len(stage):
        raise DataError(
            f"stage {stage.name!r} has no rows to save: {stage.ledger}. Why: synthkd report {files.path} --rejects"
        )
    sources = {
        number: (teacher, prompt, sampling)
        for number, teacher, prompt, sampling in database.read("SELECT id, teacher, prompt, sampling FROM sources")
    }
    facts = _facts(database, files, stages, stage, sources)
    return write(_rows(stage, sources, reasoning), target, render(facts))


def _rows(
    stage: Stage[Any], sources: Mapping[int, Source], reasoning: Literal["column", "think", "inline"]
) -> Iterator[dict[str, Any]]:
    @lru_cache(maxsize=1024)
    def provenance(numbers: tuple[int, ...]) -> Provenance:
        return _provenance([sources[number] for number in numbers])

    for record, numbers in stage.items():
        yield row(record, provenance(numbers), reasoning)


def _provenance(used: Sequence[Source]) -> Provenance:
    """One row's provenance; where several calls of different kinds went into it, all of them are named."""
    if not used:
        return Provenance()
    teachers = list(dict.fromkeys(teacher for teacher, _, _ in used))
    prompts = list(dict.fromkeys(prompt for _, prompt, _ in used))
    sampling = orjson.loads(used[0][2]) if len(used) == 1 else {p: orjson.loads(given) for _, p, given in used}
    return Provenance("; ".join(teachers), "; ".join(prompts), sampling)


def _facts(
    database: Database,
    files: Folder,
    stages: Sequence[Stage[Any]],
    stage: Stage[Any],
    sources: Mapping[int, Source],
) -> CardFacts:
    so_far = [one for one in stages if one.number <= stage.number]
    roles = {identity: role for role, identity in reversed(files.description["roles"].items())}
    spent = database.read(
        "SELECT s.teacher, COUNT(*), SUM(c.prompt_tokens), SUM(c.completion_tokens),"
        " CASE WHEN COUNT(c.cost) = COUNT(*) THEN SUM(c.cost) END FROM calls c"
        " JOIN sources s ON s.id = c.source GROUP BY s.teacher ORDER BY MIN(c.source)"
    )
    prompts: dict[str, list[str]] = {}
    sampling: dict[str, Mapping[str, Any]] = {}
    for one in so_far:
        for number in _first_used(database, one.number):
            _, prompt, given = sources[number]
            if one.name not in (used := prompts.setdefault(prompt, [])):
                used.append(one.name)
            if settings := orjson.loads(given):
                sampling[one.name] = settings
    return CardFacts(
        title=Path(str(files.description.get("pipeline") or files.path)).stem,
        kind=type(stage[0]).__name__,
        rows=len(stage),
        stages=[
            StageFacts(one.name, ledger.records_in, ledger.records_out, ledger.rejected)
            for one, ledger in ((one, one.ledger) for one in so_far)
        ],
        teachers=[
            TeacherFacts(roles.get(teacher, "teacher"), teacher, calls, asked, answered, cost=cost)
            for teacher, calls, asked, answered, cost in spent
        ],
        prompts=prompts,
        sampling=sampling,
        versions={"python": platform.python_version(), **_versions()},
        created=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def _first_used(database: Database, stage: int) -> list[int]:
    """Provenance numbers that came up in this stage and in none before it."""

    def used(where: str) -> set[int]:
        rows = database.read(f"SELECT DISTINCT sources FROM rows WHERE {where}", (stage,))
        return {int(number) for (text,) in rows if text for number in text.split(",")}

    return sorted(used("stage = ?") - used("stage < ?"))


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
