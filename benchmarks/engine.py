"""synthkd doing the requests, with all that a run does and each setting but the number in flight at its default.

Measured are opening the run, rendering the prompts, keys and look-ups, the calls, the journal with its commits, the
parsed (and for JSON typed) replies, the stage with its ledger on disk, and closing with report.json. Not measured: the
start of Python, imports, and reading the rows back to check them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp  # noqa: F401  (imported at a teacher's first call otherwise; imports are not what is measured)
from pydantic import BaseModel

from benchmarks.driver import MAX_TOKENS, Stopwatch, arguments, checked, parsed, prompt, result
from synthkd import Ask, Demonstration, Instruction, Prompt, Run
from synthkd.request import Policy, Sampling
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher

_NUMBER = re.compile(r"<<id:(\d+)>>\Z")
_SAMPLING = Sampling(max_tokens=MAX_TOKENS)
_POLICY = Policy(truncated="extend", repairs=3)


class Answered(BaseModel):
    """The typed reply."""

    answer: str
    text: str


_PROMPT = Prompt(Path(__file__).parent / "answered.jinja", Answered)


async def answered(record: Instruction, ask: Ask) -> Sequence[Demonstration]:
    """A user's own strategy: a prompt file, a typed reply; a cut reply is asked for again with more room."""
    reply = await ask(_PROMPT.fill(record, sampling=_SAMPLING, policy=_POLICY))
    return [Demonstration(prompt=record.prompt, completion=f"answer:{reply.answer} {reply.text}")]


def rows_of(stage: Sequence[Demonstration]) -> Iterator[tuple[int, str | None]]:
    """What the check wants: row number and text."""
    for row in stage:
        found = _NUMBER.search(str(row.prompt))
        assert found
        yield int(found[1]), row.completion


def main() -> None:
    """Run and print the result; with a folder that was used before, a warm run."""
    parser = arguments("synthkd, everything included.")
    parser.add_argument("--no-check", action="store_true", help="do not read the rows back")
    parser.add_argument("--fixed", action="store_true", help="always --concurrency in flight, whatever comes back")
    given = parsed(parser)
    watch = Stopwatch()
    with watch:
        teacher = OpenAITeacher("mock", base_url=given.url, max_in_flight=given.concurrency, tries=100)
        teacher.limits = replace(teacher.limits, adaptive=not given.fixed)
        run = Run(given.dir / "run", teacher=teacher, quiet=True)
    opening = watch.wall
    with watch:
        stage = run.map(answered if given.structured else Answer(sampling=_SAMPLING), seeds(given))
    verdict = {} if given.no_check else checked(given.n, rows_of(stage))
    if verdict:  # what stands in the rejects with its reason is not lost
        verdict["rejected"] = sum(stage.ledger.rejected.values())
        verdict["lost"] -= verdict["rejected"]
    asked = {"calls": run.counters.calls, "replayed": run.counters.replayed, "retries": run.counters.retries}
    mapped = watch.wall
    with watch:
        run.close()
    parts = {"opening_s": round(opening, 4), "closing_s": round(watch.wall - mapped, 4)}
    result(given.n, watch, **verdict, **asked, **parts)


def seeds(given: argparse.Namespace) -> Iterator[Instruction]:
    """The records, made as they are wanted."""
    return (Instruction(prompt=prompt(i, given.structured)) for i in range(given.n))


if __name__ == "__main__":
    main()
