"""A pipeline wired wrongly is a type error before it is run; a right one is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = """\
from collections.abc import Sequence

from synthkd import Ask, Candidates, Demonstration, Instruction, Preference, Run, Stage
from synthkd.strategies import Answer, Rank, Rationale, Sample, SelfConsistency
from synthkd.testing import FunctionTeacher


class Word(Instruction):
    language: str


async def own(record: Demonstration, ask: Ask) -> Sequence[Demonstration]:
    return [record]


with Run("x", teacher=FunctionTeacher(lambda request: "x")) as run:
    seeds = [Instruction(prompt="a")]
"""
RIGHT = """\
    words = [Word(prompt="a", language="en")]
    answers: Stage[Candidates] = run.map(Sample(4), seeds)
    pairs: Stage[Preference] = run.map(Rank(), answers)
    voted: Stage[Demonstration] = run.map(SelfConsistency(), run.map(Sample(4), words))
    mine: Stage[Demonstration] = run.map(own, run.map(Rationale(), words))
    again = run.map(own, voted)
    first: Demonstration = again[0]
    texts: list[str] = [pair.chosen for pair in pairs]
"""
WRONG = """\
    answers = run.map(Sample(4), seeds)
    run.map(Answer(), answers)
    run.map(Rank(), seeds)
    run.map(Rank(), run.map(Answer(), seeds))
    run.map(own, answers)
    pairs: Stage[Demonstration] = run.map(Rank(), answers)
"""


def test_a_stage_of_the_wrong_kind_is_a_type_error_on_its_line_and_a_right_pipeline_has_none(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(HEAD + RIGHT)
    (tmp_path / "wrong.py").write_text(HEAD + WRONG)
    options = ["--config-file", "pyproject.toml", "--cache-dir", str(tmp_path / "cache"), "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    first = HEAD.count("\n") + 2
    places = [line.split(":")[:2] for line in errors]
    assert places == [[str(tmp_path / "wrong.py"), str(first + i)] for i in range(5)], done.stdout + done.stderr
