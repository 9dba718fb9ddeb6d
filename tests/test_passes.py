"""A filter over a stage: records that it judges later are read a second time instead of being held."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkd.errors import ConfigError
from synthkd.filters import Filter, balance, dedup, each, score
from synthkd.record import Instruction, Record
from synthkd.run import Run

COUNT = 5000
Rule = Callable[[Iterable[Record]], Iterator[str | None]]


def written(run: Run, count: int = COUNT) -> Any:
    return run.filter(each(lambda record: True, "never"), (Instruction(prompt=str(n)) for n in range(count)))


def alive() -> int:
    gc.collect()
    return sum(type(one) is Instruction for one in gc.get_objects())


def verdict_of(record: Record) -> str | None:
    assert isinstance(record, Instruction)
    return "odd" if int(record.prompt) % 2 else None


def looking_ahead(ahead: int) -> Rule:
    """Gives each verdict once so many further records were seen."""

    def rule(records: Iterable[Record]) -> Iterator[str | None]:
        waiting: list[str | None] = []
        for record in records:
            waiting.append(verdict_of(record))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting

    return rule


def test_a_filter_that_sees_all_before_it_answers_holds_no_records_of_a_stage(tmp_path: Path) -> None:
    living: list[int] = []

    def rule(records: Iterable[Record]) -> Iterator[str | None]:
        verdicts = [verdict_of(record) for record in records]
        living.append(alive())
        for number, verdict in enumerate(verdicts):
            if number % 1000 == 0:
                living.append(alive())
            yield verdict

    with Run(tmp_path, quiet=True) as run:
        stage = written(run)
        before = alive()
        kept = run.filter(rule, stage)
        assert len(kept) == COUNT // 2
        assert kept.ledger.rejected == {"odd": COUNT // 2}
    assert max(living) - before < 1100
    assert len(living) == 6


@pytest.mark.parametrize("ahead", [0, 1, 1023, 1024, 1025, 3000, COUNT, 2 * COUNT])
def test_each_verdict_meets_its_record_however_far_a_filter_looks_ahead(tmp_path: Path, ahead: int) -> None:
    with Run(tmp_path, quiet=True) as run:
        kept = run.filter(looking_ahead(ahead), written(run))
        assert [int(record.prompt) for record in kept] == list(range(0, COUNT, 2))
        assert {reject.body["prompt"] for reject in kept.rejects} == {str(n) for n in range(1, COUNT, 2)}


def test_a_filter_that_judges_a_few_and_then_looks_far_ahead_meets_them_too(tmp_path: Path) -> None:
    def rule(records: Iterable[Record]) -> Iterator[str | None]:
        source = iter(records)
        for _ in range(2000):
            yield verdict_of(next(source))
        yield from [verdict_of(record) for record in source]

    with Run(tmp_path, quiet=True) as run:
        kept = run.filter(rule, written(run))
        assert [int(record.prompt) for record in kept] == list(range(0, COUNT, 2))


def embed(texts: list[str]) -> Any:
    return np.array([[int(text) % 7 + 1, int(text) % 3, 1] for text in texts], dtype=float)


RULES: dict[str, Filter[Any]] = {
    "k_center": dedup.k_center(embed, 50),
    "balance": balance(lambda record: len(record.prompt)),
    "score": score(lambda record: int(record.prompt) % 100, top=0.1),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_built_in_ones_keep_of_a_stage_what_they_keep_of_a_list(tmp_path: Path, rule: Filter[Any]) -> None:
    with Run(tmp_path, quiet=True) as run:
        stage = written(run, 2500)
        assert list(run.filter(rule, stage)) == list(run.filter(rule, list(stage)))


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_a_wrong_number_of_verdicts_after_a_long_look_ahead_is_refused(tmp_path: Path, count: int) -> None:
    def rule(records: Iterable[Record]) -> Iterator[str | None]:
        assert len(list(records)) == COUNT
        yield from [None] * count

    with Run(tmp_path, quiet=True) as run, pytest.raises(ConfigError, match="one each, in order"):
        run.filter(rule, written(run))
