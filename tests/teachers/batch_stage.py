"""One stage of answers drawn in batches: what the tests of batches share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_server import BatchServer
from loopback import Loopback

from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Sample
from synthkd.teachers import OpenAITeacher
from synthkd.teachers.batch import Batch

Batches = Callable[..., BatchServer]


def teacher_at(server: Loopback, key: str | None = None, **options: Any) -> OpenAITeacher:
    options = {"gather_seconds": 0.05, "poll_seconds": (0.01, 0.03), **options}
    return OpenAITeacher("m", base_url=server.url, api_key=key, batch=Batch(**options))


def questions(count: int) -> list[Instruction]:
    return [Instruction(prompt=f"q{i}") for i in range(count)]


@dataclass
class Outcome:
    """What one stage came to."""

    rows: dict[str, tuple[str, ...]]
    """Completions by prompt."""
    rejected: dict[str, str]
    """The message of each reject by prompt."""
    calls: int
    replayed: int


def sampled(folder: Path, teacher: OpenAITeacher, count: int, n: int = 2) -> Outcome:
    """Run one stage: `n` answers to each of `count` questions."""
    with Run(folder, teacher=teacher, quiet=True) as run:
        stage = run.map(Sample(n), questions(count))
        rows = {str(row.prompt): row.completions for row in stage}
        rejected = {reject.body["prompt"]: reject.detail for reject in stage.rejects}
        assert len(rows) + len(rejected) == count
        return Outcome(rows, rejected, run.counters.calls, run.counters.replayed)


def expected(indices: Sequence[int], n: int = 2) -> dict[str, tuple[str, ...]]:
    return {f"q{i}": tuple(f"answer {k} to: q{i}" for k in range(n)) for i in indices}


def sizes(server: BatchServer) -> list[int]:
    """Lines of each batch, in order of creation."""
    return [job.total for job in server.jobs.values()]
