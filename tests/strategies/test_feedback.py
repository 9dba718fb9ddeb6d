"""Feedback: a judge's scores become a pair only where the judge has seen a difference."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import PromptError, TeacherError, TeacherUnavailable
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Preference
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.strategies import Rank, Rating
from synthkd.testing import FunctionTeacher

Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(judge: Any) -> Run:
        opened.append(Run(tmp_path / f"run{len(opened)}", judge=FunctionTeacher(judge, "judge"), quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def judging(request: Request[Any]) -> str:
    """A judge who likes one letter: a point for each `a`."""
    return verdict(request.messages[-1].content.split("[Answer]")[1].count("a"))


def verdict(score: int) -> str:
    return json.dumps({"reason": "because", "score": score})


def given_candidates(*completions: str) -> Candidates:
    return Candidates(prompt="Say a.", completions=completions, meta={"topic": "letters"})


def calls(run: Run) -> list[Request[Any]]:
    judge = run.roles["judge"]
    assert isinstance(judge, FunctionTeacher)
    return judge.calls


def test_the_best_and_the_worst_become_a_pair_with_their_scores(start: Start) -> None:
    record = given_candidates("aa", "aaaa", "a", "aaa")
    run = start(judging)
    [row] = run.map(Rank(), [record])
    assert row == Preference(
        parents=(record.id,),
        prompt="Say a.",
        chosen="aaaa",
        rejected="a",
        score_chosen=4.0,
        score_rejected=1.0,
        meta={"topic": "letters"},
    )
    assert len(calls(run)) == 4
    assert {call.sampling.temperature for call in calls(run)} == {0.0}


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=4),
    st.integers(0, 4),
)
def test_ties_never_become_pairs_and_every_pair_is_as_far_apart_as_was_asked(
    one_run: Run, scores: list[list[int]], margin: int
) -> None:
    records = [given_candidates(*("a" * score + "b" * place for place, score in enumerate(row))) for row in scores]
    stage = one_run.map(Rank(margin=margin), records)
    pairs = {row.parents[0]: row for row in stage}
    for record, row in zip(records, scores, strict=True):
        apart = max(row) - min(row)
        assert (record.id in pairs) == (apart >= max(margin, 1))
        if record.id in pairs:
            pair = pairs[record.id]
            assert (pair.score_chosen, pair.score_rejected) == (max(row), min(row))
            assert (pair.chosen.count("a"), pair.rejected.count("a")) == (max(row), min(row))
    assert set(stage.ledger.rejected) <= {"tie"}


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with Run(tmp_path_factory.mktemp("runs") / "shared", judge=FunctionTeacher(judging, "judge"), quiet=True) as run:
        yield run


def test_candidates_that_are_all_the_same_text_cost_nothing(start: Start) -> None:
    run = start(judging)
    stage = run.map(Rank(), [given_candidates("aa", "aa", "aa"), given_candidates("a")])
    assert stage.ledger.rejected == {"tie": 2}
    assert calls(run) == []


def test_equal_texts_are_judged_once(start: Start) -> None:
    run = start(judging)
    assert len(run.map(Rank(), [given_candidates("aa", "a", "aa", "a")])) == 1
    assert len(calls(run)) == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("I cannot decide.", "unreadable reply"),
        (verdict(9), "unreadable reply"),
        (Completion("", refusal="no"), "refused"),
        (Completion(verdict(5), finish_reason="length"), "truncated"),
        (verdict(5)[:-1], "truncated"),
        ("", "empty reply"),
    ],
)
def test_a_verdict_that_cannot_be_read_abstains_and_is_counted(
    start: Start, said: str | Completion, reason: str
) -> None:
    def judge(request: Request[Any]) -> str | Completion:
        return said if "b" in request.messages[1].content.split("[Answer]")[1] else judging(request)

    run = start(judge)
    strategy = Rank(policy=Policy(repairs=0))
    stage = run.map(strategy, [given_candidates("a", "bb", "aaa"), given_candidates("bb", "a")])
    assert [(row.chosen, row.rejected) for row in stage] == [("aaa", "a")]
    assert stage.ledger.rejected == {"judge abstained": 1}
    assert stage.ledger.dropped == {f"verdict {reason}": 2}


def test_a_judge_who_fails_for_one_answer_rejects_only_that_record(start: Start) -> None:
    def judge(request: Request[Any]) -> str:
        if "b" in request.messages[1].content.split("[Answer]")[1]:
            raise TeacherError("400: too long")
        return judging(request)

    stage = start(judge).map(Rank(), [given_candidates("a", "bb", "aaa"), given_candidates("aa", "a")])
    assert [row.chosen for row in stage] == ["aa"]
    assert stage.ledger.rejected == {"teacher error": 1}


def test_a_judge_who_is_gone_stops_the_run(start: Start) -> None:
    def judge(_: Request[Any]) -> str:
        raise TeacherUnavailable("401")

    with pytest.raises(TeacherUnavailable):
        start(judge).map(Rank(), [given_candidates("a", "aa")])


def test_a_template_of_one_s_own_may_use_the_answer_and_the_record(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    head = "{# variables: answer, topic; source: this test #}"
    path.write_text(head + "{% block user %}{{ topic }} [Answer] {{ answer }}{% endblock %}")
    run = start(judging)
    strategy = Rank(prompt=Prompt(path, Rating))
    assert run.map(strategy, [given_candidates("a", "aa")])[0].chosen == "aa"
    assert "letters [Answer] a" in {call.messages[0].content for call in calls(run)}
    with pytest.raises(PromptError, match="wants 'topic'"):
        run.map(strategy, [Candidates(prompt="?", completions=("a", "b"))])
