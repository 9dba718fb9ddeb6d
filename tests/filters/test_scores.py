"""Scores, margins and votes: numbers become verdicts, and a missing one is never high or low."""

from __future__ import annotations

import pytest

from synthkd.errors import ConfigError, DataError
from synthkd.filters import agreement, margin, score
from synthkd.record import Candidates, Demonstration, Preference, Record


def scored(*values: object, **meta: str) -> list[Demonstration]:
    return [
        Demonstration(prompt="p", completion=str(place), meta={"quality": value, **meta})  # type: ignore[dict-item]
        for place, value in enumerate(values)
    ]


def test_limits_hold_with_and_without_the_value_itself() -> None:
    records = scored(1, 2, 3)
    assert list(score("quality", at_least=2)(records)) == ["quality below 2", None, None]
    assert list(score("quality", above=2)(records)) == ["quality not above 2"] * 2 + [None]
    assert list(score("quality", at_most=2)(records)) == [None, None, "quality above 2"]
    assert list(score("quality", above=1, below=3)(records)) == ["quality not above 1", None, "quality not below 3"]


def test_a_score_is_a_field_an_entry_of_meta_or_a_function() -> None:
    assert list(score("weight", at_least=0.5)([Demonstration(prompt="p", completion="c", weight=0.4)])) == [
        "weight below 0.5"
    ]

    def size(record: Demonstration) -> int:
        return len(record.completion)

    assert list(score(size, at_least=2)(scored(1))) == ["size below 2"]


def test_a_record_without_a_score_is_dropped_as_such() -> None:
    assert list(score("quality", at_most=9)(scored(None, float("nan"), 3))) == ["no quality", "no quality", None]
    with pytest.raises(DataError, match=r"score\(\) looks for 'grade'.*in meta: quality"):
        list(score("grade", at_least=1)(scored(1)))
    with pytest.raises(DataError, match="is 'good'; expected a number"):
        list(score("quality", at_least=1)(scored("good")))


def test_the_top_are_a_number_or_a_share_and_of_equals_the_earlier() -> None:
    records = scored(1, 5, 3, 5, 2)
    not_top = "quality not among the top"
    assert list(score("quality", top=1)(records)) == [not_top, None, not_top, not_top, not_top]
    assert list(score("quality", top=0.6)(records)) == [not_top, None, None, None, not_top]
    assert list(score("quality", top=1.0)(records)) == [None] * 5
    assert list(score("quality", top=2, below=5)(records)) == [
        not_top,
        "quality not below 5",
        None,
        "quality not below 5",
        None,
    ]


def test_the_best_of_each_group() -> None:
    records = [
        Demonstration(prompt="p", completion=c, meta={"source": s, "quality": q})
        for c, s, q in (("a", "x", 1), ("b", "y", 5), ("c", "x", 2), ("d", "y", 4))
    ]
    not_top = "quality not among the top"
    assert list(score("quality", top=1, within="source")(records)) == [not_top, None, None, not_top]


def test_a_model_may_score_many_records_at_a_time() -> None:
    sizes = []

    def model(records: list[Demonstration]) -> list[float]:
        sizes.append(len(records))
        return [float(str(record.meta["quality"])) for record in records]

    assert list(score(model, at_least=2, batch=2)(scored(1, 2, 3))) == ["model below 2", None, None]
    assert sizes == [2, 1]
    with pytest.raises(ConfigError, match=r"gave score\(\) 0 scores for 1 records"):
        list(score(lambda records: [], at_least=1, batch=4)(scored(1)))


NONSENSE = [
    {},
    {"at_least": 2, "at_most": 1},
    {"top": 0},
    {"top": 1.5},
    {"top": True},
    {"within": "x", "at_least": 1},
    {"at_least": 1, "batch": 2},
]


@pytest.mark.parametrize("arguments", NONSENSE)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"^score\("):
        score("quality", **arguments)  # type: ignore[arg-type]


def preference(chosen: float | None, rejected: float | None) -> Preference:
    return Preference(prompt="p", chosen="a", rejected="b", score_chosen=chosen, score_rejected=rejected)


def test_the_chosen_one_must_score_higher_by_the_margin() -> None:
    pairs = [preference(5, 3), preference(3, 3), preference(2, 3), preference(4, None)]
    small = "small margin"
    assert list(margin()(pairs)) == [None, small, small, "no scores"]
    assert list(margin(3)(pairs[:1])) == [small]
    with pytest.raises(ConfigError, match="at least 0"):
        margin(-1)
    with pytest.raises(ConfigError, match="judges preferences"):
        list(margin()(scored(1)))  # type: ignore[arg-type]


def test_votes_agree_when_enough_completions_have_the_same_answer() -> None:
    several = Candidates(prompt="p", completions=("so 4", "The answer is 4.0.", r"\boxed{5}", "no idea"))
    assert list(agreement(0.5)([several])) == [None]
    assert list(agreement(0.6)([several])) == ["no agreement"]
    assert list(agreement()([Candidates(prompt="p", completions=("who knows", "not me"))])) == ["no votes"]


def test_votes_may_be_verdicts_from_a_judge_in_both_orders() -> None:
    records: list[Record] = [
        Demonstration(prompt="p", completion="c", meta={"verdicts": list(verdicts)}) for verdicts in ("AA", "AB")
    ]
    assert list(agreement(1.0, of="verdicts", find=str)(records)) == [None, "no agreement"]
    with pytest.raises(ConfigError, match="a share above 0"):
        agreement(0)
