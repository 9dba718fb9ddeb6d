"""The journal at size: a run of many rows, made and then replayed, each in a process of its own.

An instant teacher in the process stands in for the endpoint, because here the calls are not what is measured. Phase
`fill` makes the run; phase `warm` opens it again, looks keys up at random and replays every call, and says how much
memory that took. Nothing can be asked in `warm`: a call that is not in the journal fails.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.driver import Stopwatch, arguments, parsed, peak_mb, prompt, result
from benchmarks.server import answer_to
from synthkd import Instruction, Run
from synthkd.database import Database
from synthkd.errors import TeacherError
from synthkd.journal import Journal
from synthkd.request import Completion, Limits, Request, Sampling, Usage
from synthkd.strategies import Answer

_FILLER = "the records of a small town lie in long tables that were written by hand each winter and read by few " * 10
_LOOKUPS = 20_000


class Instant:
    """A teacher that answers at once, or refuses to where nothing may be asked."""

    identity = "instant"
    sampling = Sampling()
    limits = Limits("instant")
    native_schema = True

    def __init__(self, answers: bool) -> None:
        self._answers = answers

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """One completion of the usual length."""
        if not self._answers:
            raise TeacherError("a warm run asked its teacher")
        text = request.messages[-1].content
        mark = text[text.rfind("<<id:") :].encode()
        usage = Usage(prompt_tokens=80, completion_tokens=200)
        return [Completion(f"answer:{answer_to(mark).decode()} {_FILLER}", finish_reason="stop", usage=usage)]

    async def aclose(self) -> None:
        """Nothing to give back."""


def seeds(n: int) -> Iterator[Instruction]:
    """The records, made as they are wanted."""
    return (Instruction(prompt=prompt(i, False)) for i in range(n))


def looked_up(path: Path) -> dict[str, float]:
    """How long the journal takes to open, and to find one key."""
    with sqlite3.connect(path) as connection:
        last = connection.execute("SELECT MAX(id) FROM calls").fetchone()[0]
        places = [random.randint(1, last) for _ in range(min(_LOOKUPS, last))]
        keys = [connection.execute("SELECT key FROM calls WHERE id = ?", (place,)).fetchone()[0] for place in places]
    connection.close()
    began = time.perf_counter()
    database = Database(path)
    journal = Journal(database)
    opened = time.perf_counter()
    missing = sum(journal.find(key) is None for key in keys)
    done = time.perf_counter()
    database.close()
    assert not missing
    return {
        "journal_opening_ms": round(1000 * (opened - began), 2),
        "lookup_us": round(1e6 * (done - opened) / len(keys), 2),
    }


def main() -> None:
    """One phase, and its result."""
    parser = arguments("A large journal, filled or replayed.")
    parser.add_argument("--phase", choices=("fill", "warm"), required=True)
    given = parsed(parser)
    folder = given.dir / "run"
    found = looked_up(folder / "run.db") if given.phase == "warm" else {}
    before = peak_mb()
    watch = Stopwatch()
    with watch:
        run = Run(folder, teacher=Instant(given.phase == "fill"), quiet=True)
    opening = watch.wall
    with watch:
        stage = run.map(Answer(), seeds(given.n))
    lost = given.n - len(stage)
    mapped = watch.wall
    with watch:
        run.close()
    parts = {"opening_s": round(opening, 4), "closing_s": round(watch.wall - mapped, 4), "rss_before_mb": before}
    asked = {"calls": run.counters.calls, "replayed": run.counters.replayed}
    size = round((folder / "run.db").stat().st_size / 2**20, 1)
    result(given.n, watch, ok=given.n - lost, lost=lost, **asked, **parts, **found, file_mb=size)


if __name__ == "__main__":
    main()
