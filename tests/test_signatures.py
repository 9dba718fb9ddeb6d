"""What is no strategy or no filter, or takes another kind of record, is refused before anything is paid."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthkd.ask import Ask
from synthkd.assemble import Pairs
from synthkd.errors import ConfigError
from synthkd.filters import length
from synthkd.record import Demonstration, Instruction
from synthkd.run import Run
from synthkd.strategies import Answer, Rank
from synthkd.testing import FunctionTeacher


def test_what_is_no_strategy_or_takes_another_kind_of_record_is_refused_with_the_cure(tmp_path: Path) -> None:
    teacher = FunctionTeacher(lambda request: "x")

    def plain(record: Instruction, ask: Ask) -> list[Instruction]:
        return [record]

    seeds = [Instruction(prompt="a")]
    with Run(tmp_path, teacher=teacher, quiet=True) as run:
        for strategy, complaint in (
            (Rank(), "takes Candidates, and the first record is a Instruction"),
            (Pairs(), "takes Ranking"),
            (Answer, r"was given the class Answer. Write Answer\(...\)"),
            (length(min_words=1, of="prompt"), r"A filter goes to run.filter"),
            (plain, "no async function"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                run.map(strategy, seeds)  # type: ignore[arg-type, type-var]
        for rule, complaint in (
            (Answer(), r"A strategy goes to run.map"),
            (lambda record: len(record.prompt) > 2, r"synthkd.filters.each"),
            (lambda record: True, r"synthkd.filters.each"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                run.filter(rule, seeds)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="expected a stage"):
            run.save(seeds)  # type: ignore[arg-type]
    assert teacher.calls == []


def test_a_record_with_more_fields_than_wanted_is_welcome(tmp_path: Path) -> None:
    with Run(tmp_path, teacher=FunctionTeacher(lambda request: "again"), quiet=True) as run:
        [row] = run.map(Answer(), [Demonstration(prompt="a", completion="old")])  # type: ignore[list-item]
        assert row.completion == "again"
