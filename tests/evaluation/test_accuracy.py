"""Accuracy through a real run: what counts as right, and what the interval says."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthkd import Instruction, Run, Sampling
from synthkd.errors import ConfigError
from synthkd.evaluation import Accuracy, accuracy, table
from synthkd.request import Completion, Request
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher


def problems(n: int = 4) -> list[Instruction]:
    return [Instruction(prompt=f"What is {i} + 1?", meta={"answer": f"Count on.\n#### {i + 1}"}) for i in range(n)]


def replies(*texts: str | Completion) -> FunctionTeacher:
    """A model that answers the problems with these replies, in their order."""

    def answer(request: Request[str]) -> str | Completion:
        return texts[int(request.messages[-1].content.split()[2])]

    return FunctionTeacher(answer, identity=f"replies {texts!r}")


def test_right_answers_are_counted_however_they_are_put(tmp_path: Path) -> None:
    model = replies("1 it is", "So the answer is 2.", r"\boxed{3.0}", "Five")
    with Run(tmp_path / "run", quiet=True) as run:
        found = accuracy(run, problems(), {"student": model})
    assert found == {"student": Accuracy("student", 3, 4)}
    assert model.calls[0].sampling.temperature == 0


def test_a_problem_without_a_usable_answer_counts_as_wrong(tmp_path: Path) -> None:
    cut = Completion("The answer is 2", finish_reason="length")
    refused = Completion("", refusal="No.", finish_reason="stop")
    with Run(tmp_path / "run", quiet=True) as run:
        found = accuracy(run, problems(), {"student": replies("1", cut, refused, "")})
    assert (found["student"].correct, found["student"].total) == (1, 4)


def test_models_stand_beside_each_other_and_a_second_measuring_pays_nothing(tmp_path: Path) -> None:
    models = {"teacher": replies("1", "2", "3", "4"), "student": replies("1", "2", "0", "0")}
    for calls in (4, 4):
        with Run(tmp_path / "run", quiet=True) as run:
            found = accuracy(run, problems(), models)
        assert {name: one.share for name, one in found.items()} == {"teacher": 1.0, "student": 0.5}
        assert [len(model.calls) for model in models.values()] == [calls, calls]


def test_the_same_problem_twice_counts_twice(tmp_path: Path) -> None:
    with Run(tmp_path / "run", quiet=True) as run:
        found = accuracy(run, problems(2) + problems(1), {"student": replies("1", "0")})
    assert (found["student"].correct, found["student"].total) == (2, 3)


def test_gold_answers_come_from_a_field_from_meta_or_from_a_function(tmp_path: Path) -> None:
    class Problem(Instruction):
        solution: str

    asked = [Problem(prompt="What is 0 + 1?", solution="1")]
    with Run(tmp_path / "run", quiet=True) as run:
        assert accuracy(run, asked, {"m": replies("1")}, gold="solution")["m"].share == 1
        assert accuracy(run, problems(1), {"m": replies("7")}, gold=lambda problem: "7")["m"].share == 1
        with pytest.raises(ConfigError, match="has no 'gold' to be measured against; there are answer"):
            accuracy(run, problems(), {"m": replies("1")}, gold="gold")
        with pytest.raises(ConfigError, match="no problems"):
            accuracy(run, [], {"m": replies("1")})


def test_the_way_of_asking_may_be_the_callers(tmp_path: Path) -> None:
    model = replies("1")
    with Run(tmp_path / "run", quiet=True) as run:
        accuracy(run, problems(1), {"m": model}, strategy=Answer(sampling=Sampling(temperature=0.5, max_tokens=9)))
    assert model.calls[0].sampling.max_tokens == 9


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(correct: int, total: int, low: float, high: float) -> None:
    assert Accuracy("m", correct, total).interval == pytest.approx((low, high), abs=1e-4)


def test_the_table_shows_every_model() -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as shown:
        console.print(table({"teacher": Accuracy("teacher", 9, 10), "student": Accuracy("student", 1, 10)}))
    for part in ("teacher", "9 of 10", "90.0%", "59.6% to 98.2%", "student", "1 of 10"):
        assert part in shown.get()
    assert str(Accuracy("m", 9, 10)) == "m: 90.0% (9 of 10, 95 % interval 59.6% to 98.2%)"


@pytest.mark.train
def test_a_student_is_measured_on_this_machine(tmp_path: Path) -> None:
    from tiny_models import save_model

    from synthkd.teachers import LocalTeacher

    student = LocalTeacher(save_model(tmp_path / "student"), max_tokens=8)
    with Run(tmp_path / "run", quiet=True) as run:
        found = accuracy(run, problems(), {"student": student}, by=lambda answer, gold: True)
    assert found["student"].total == 4
