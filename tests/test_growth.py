"""Sets that grow: exactly so many, the same again, and nothing that came of a draw is lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.ask import Ask
from synthkd.errors import BudgetExceeded, ConfigError, PromptError, RecordError
from synthkd.filters import balance, each, every, length, novelty
from synthkd.message import Message
from synthkd.record import Instruction, Record
from synthkd.request import Request
from synthkd.run import Run
from synthkd.testing import FunctionTeacher

SEEDS = [Instruction(prompt=f"Write about the {word} of the town.") for word in ("tower", "river", "market")]


class Shown(Record):
    texts: tuple[str, ...]


def draw(seeds: Sequence[Instruction], grown: Sequence[Instruction], rng: random.Random) -> Shown:
    of_grown = rng.sample(list(grown), min(1, len(grown)))
    return Shown(texts=tuple(one.instruction for one in [*rng.sample(list(seeds), 2), *of_grown]))


async def imitate(record: Shown, ask: Ask) -> Sequence[Instruction]:
    lines = await ask(Request((Message("user", "\n".join(record.texts)),), str))
    if lines == "nothing":
        raise RecordError("the teacher had no idea", reason="no idea")
    return [Instruction(prompt=line) for line in lines.splitlines()]


class Author:
    """A teacher that writes `each` lines per call, some of them again and again."""

    def __init__(self, each: int = 3, worlds: int = 10**9, silent: float = 0.0) -> None:
        self.each, self.worlds, self.silent = each, worlds, silent
        self.drawn: dict[str, int] = {}

    def __call__(self, request: Request[Any]) -> str:
        shown = request.messages[0].text
        number = self.drawn[shown] = self.drawn.get(shown, 0) + 1
        rng = random.Random(f"{shown} {number}")
        if rng.random() < self.silent:
            return "nothing"
        return "\n".join(f"Line {rng.randrange(self.worlds)} with a word {rng.random()}." for _ in range(self.each))


def grow(folder: Path, teacher: FunctionTeacher, until: int = 20, **more: Any) -> tuple[list[Instruction], Any, Any]:
    limits = {name: more.pop(name) for name in ("max_calls", "seed") if name in more}
    with Run(folder, teacher=teacher, quiet=True, **limits) as run:
        kept = run.grow(imitate, SEEDS, until=until, draw=more.pop("draw", draw), **more)
        drawn = run._stages.made[-2]
        return list(kept), kept, (drawn.ledger, kept.ledger, kept.shortfall, list(kept.rejects))


def test_it_ends_with_exactly_so_many_and_everything_that_came_is_in_a_ledger(tmp_path: Path) -> None:
    teacher = FunctionTeacher(Author(each=7, silent=0.2))
    rows, _, (drawn, kept, shortfall, rejects) = grow(tmp_path, teacher, 50, at_a_time=4)
    assert len(rows) == 50
    assert shortfall == ""
    assert kept.records_in == drawn.records_out
    assert kept.records_out == 50
    assert kept.rejected == {"past the goal": drawn.records_out - 50}
    assert [reject.reason for reject in rejects] == ["past the goal"] * len(rejects)
    assert drawn.rejected.keys() == {"no idea"}
    assert drawn.records_in == len(teacher.calls)


def test_a_second_run_replays_every_draw(tmp_path: Path) -> None:
    first, _, told = grow(tmp_path, FunctionTeacher(Author(silent=0.1)), rule=novelty(0.7))
    again = FunctionTeacher(Author())
    second, _, retold = grow(tmp_path, again, rule=novelty(0.7))
    assert second == first
    assert retold == told
    assert again.calls == []


def test_what_has_grown_is_shown_in_later_rounds(tmp_path: Path) -> None:
    teacher = FunctionTeacher(Author())
    rows, _, _ = grow(tmp_path, teacher, 12, at_a_time=2)
    shown = "\n".join(call.messages[0].text for call in teacher.calls)
    assert sum(row.instruction in shown for row in rows) >= 2


def test_the_same_draw_again_is_a_new_draw(tmp_path: Path) -> None:
    def always(seeds: Any, grown: Any, rng: Any) -> Shown:
        return Shown(texts=("one",))

    rows, _, _ = grow(tmp_path, FunctionTeacher(Author(each=1)), 5, draw=always)
    assert len({row.instruction for row in rows}) == 5


def test_another_seed_takes_another_path(tmp_path: Path) -> None:
    first, _, _ = grow(tmp_path / "a", FunctionTeacher(Author()))
    second, _, _ = grow(tmp_path / "b", FunctionTeacher(Author()), seed=1)
    assert [row.prompt for row in first] != [row.prompt for row in second]


def test_what_is_like_a_seed_or_an_earlier_one_is_rejected(tmp_path: Path) -> None:
    def author(request: Request[Any]) -> str:
        return "Write about the tower of the town.\nPaint the old harbour at night.\nPaint the old harbour at night."

    rule = every(length(min_words=3, of="prompt"), novelty(0.7))
    rows, stage, (_, ledger, shortfall, _) = grow(tmp_path, FunctionTeacher(author), 2, rule=rule, patience=2)
    assert [row.prompt for row in rows] == ["Paint the old harbour at night."]
    assert ledger.rejected["not novel"] == ledger.records_in - 1
    assert shortfall.startswith("1 of 2 records after ")
    assert "not novel" in shortfall
    assert stage.shortfall == shortfall


def test_it_gives_up_where_every_draw_fails(tmp_path: Path) -> None:
    rows, _, (drawn, _, shortfall, _) = grow(tmp_path, FunctionTeacher(Author(silent=1.0)), at_a_time=4, patience=3)
    assert rows == []
    assert "no idea" in shortfall
    assert drawn.records_in == drawn.rejected["no idea"] == 12


def test_no_more_is_asked_than_the_goal_needs(tmp_path: Path) -> None:
    teacher = FunctionTeacher(Author(each=10))
    grow(tmp_path, teacher, 100, at_a_time=10)
    assert len(teacher.calls) == 10


def test_a_filter_that_looks_ahead_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    teacher = FunctionTeacher(Author())
    with pytest.raises(ConfigError, match="wants to see later records"):
        grow(tmp_path, teacher, rule=balance("prompt"))
    assert teacher.calls == []


def test_wrong_arguments_say_what_is_wanted(tmp_path: Path) -> None:
    with Run(tmp_path, teacher=FunctionTeacher(Author()), quiet=True) as run:
        with pytest.raises(ConfigError, match="until=0"):
            run.grow(imitate, SEEDS, until=0, draw=draw)
        with pytest.raises(ConfigError, match="no method draw"):
            run.grow(imitate, SEEDS, until=1)
        with pytest.raises(ConfigError, match="no seeds"):
            run.grow(imitate, [], until=1, draw=draw)


def test_a_strategy_checks_itself_before_anything_is_paid(tmp_path: Path) -> None:
    class Wrong:
        def check(self, record: Shown) -> None:
            raise PromptError("wants a field that is not there")

        async def __call__(self, record: Shown, ask: Ask) -> Sequence[Instruction]:
            return await imitate(record, ask)

    teacher = FunctionTeacher(Author())
    with Run(tmp_path, teacher=teacher, quiet=True) as run, pytest.raises(PromptError):
        run.grow(Wrong(), SEEDS, until=3, draw=draw)
    assert teacher.calls == []


def test_a_fault_of_the_strategy_stops_the_run_and_says_where(tmp_path: Path) -> None:
    async def broken(record: Shown, ask: Ask) -> Sequence[Instruction]:
        raise ZeroDivisionError("oops")

    with Run(tmp_path, teacher=FunctionTeacher(Author()), quiet=True) as run:
        with pytest.raises(ZeroDivisionError) as caught:
            run.grow(broken, SEEDS, until=3, draw=draw)
        assert "while stage 'broken-drawn' worked on record" in caught.value.__notes__[0]


@settings(deadline=None, max_examples=15)
@given(
    until=st.integers(1, 30),
    at_a_time=st.integers(1, 7),
    calls=st.integers(1, 12),
    worlds=st.sampled_from([15, 10**6]),
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tmp_path_factory: pytest.TempPathFactory, until: int, at_a_time: int, calls: int, worlds: int
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    options = {"at_a_time": at_a_time, "rule": every(novelty(0.9), each(lambda row: "7" not in str(row.prompt)))}
    whole = grow(folder / "whole", FunctionTeacher(Author(worlds=worlds)), until, **options)
    author = Author(worlds=worlds)
    try:
        grow(folder / "stopped", FunctionTeacher(author), until, max_calls=calls, **options)
    except BudgetExceeded:
        pass
    resumed = grow(folder / "stopped", FunctionTeacher(author), until, **options)
    assert resumed[0] == whole[0]
    assert resumed[2] == whole[2]
