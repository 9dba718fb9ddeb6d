"""Choices: the probabilities of label tokens become soft preferences and soft classes, the same in every order."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkd import filters
from synthkd.errors import ConfigError, TeacherError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Document, Instruction, Labelled, Preference
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.strategies import Choose, Classify
from synthkd.strategies.feedback.labels import probabilities
from synthkd.testing import FunctionTeacher

Start = Callable[..., Run]
GIVEN = Candidates(prompt="Say a.", completions=("good", "bad"), meta={"topic": "letters"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(judge: Any) -> Run:
        opened.append(Run(tmp_path / f"run{len(opened)}", judge=FunctionTeacher(judge, "judge"), quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run) -> list[Request[Any]]:
    judge = run.roles["judge"]
    assert isinstance(judge, FunctionTeacher)
    return judge.calls


def token(alternatives: dict[str, float]) -> dict[str, Any]:
    """A token's log-probabilities as servers give them, the likeliest one chosen."""
    top = [{"token": name, "logprob": math.log(chance) if chance else -9999.0} for name, chance in alternatives.items()]
    return {**max(top, key=lambda one: one["logprob"]), "top_logprobs": top}


def saying(*tokens: dict[str, float]) -> Completion:
    entries = tuple(map(token, tokens))
    return Completion("".join(entry["token"] for entry in entries), finish_reason="length", logprobs=entries)


def places(request: Request[Any]) -> dict[str, str]:
    """Which response stands under which label."""
    return dict(re.findall(r"\[Response (\w)\]\n(.*)", request.messages[-1].text))


def likes_good(sure: float, bias: float = 0.0) -> Callable[[Request[Any]], Completion]:
    """A judge who is so sure of the good one, and as much more as it is biased for the first."""

    def judge(request: Request[Any]) -> Completion:
        good_first = places(request)["A"] == "good"
        chance = (sure if good_first else 1 - sure) + bias
        return saying({"A": chance * 0.8, "B": (1 - chance) * 0.8, "The": 0.2})

    return judge


def test_a_soft_preference_is_the_mean_of_both_orders_so_a_bias_for_places_falls_out(start: Start) -> None:
    run = start(likes_good(0.7, bias=0.1))
    [row] = run.map(Choose(), [GIVEN])
    assert (row.chosen, row.rejected, row.parents) == ("good", "bad", (GIVEN.id,))
    assert row.score_chosen == pytest.approx(0.7)
    assert row.score_rejected == pytest.approx(0.3)
    assert row.meta["topic"] == "letters"
    assert row.meta["verdicts"] == ["chosen", "chosen"]
    assert [(call.sampling.max_tokens, call.sampling.logprobs) for call in calls(run)] == [(1, 20)] * 2
    assert sorted(places(call)["A"] for call in calls(run)) == ["bad", "good"]


def test_orders_that_disagree_are_told_and_the_filter_for_agreement_sees_them(start: Start) -> None:
    run = start(likes_good(0.6, bias=0.3))
    pairs = run.map(Choose(), [GIVEN])
    assert pairs[0].meta["verdicts"] == ["chosen", "rejected"]
    kept = run.filter(filters.agreement(1.0, of="verdicts", find=str), pairs)
    assert kept.ledger.rejected == {"no agreement": 1}


def test_one_principle_is_drawn_for_both_orders(start: Start) -> None:
    run = start(likes_good(0.9))
    records = [Candidates(prompt=f"p{n}", completions=("good", "bad")) for n in range(30)]
    pairs = run.map(Choose(principles=("Is it kind?", "Is it true?")), records)
    drawn = [str(row.meta["principle"]) for row in pairs]
    assert set(drawn) == {"Is it kind?", "Is it true?"}
    for principle in set(drawn):
        shown = [call for call in calls(run) if principle in call.messages[-1].text]
        assert len(shown) == 2 * drawn.count(principle)


def test_a_rationale_comes_first_and_the_clamp_holds_the_judge_back(start: Start) -> None:
    def judge(request: Request[Any]) -> str | Completion:
        if request.prompt.startswith("feedback/weigh"):
            return f"Seen {places(request)['A']} first."
        assert f"Seen {places(request)['A']} first." in request.messages[-1].text
        return likes_good(0.99)(request)

    run = start(judge)
    [row] = run.map(Choose(rationale=Prompt("feedback/weigh", str), clamp=0.4), [GIVEN])
    assert (row.chosen, row.score_chosen) == ("good", 0.6)
    assert len(calls(run)) == 4


@pytest.mark.parametrize(("said", "pair", "reason"), [("good", 1.0, None), ("first", None, "tie")])
def test_without_probabilities_both_orders_must_agree(start: Start, said: str, pair: float, reason: str) -> None:
    def judge(request: Request[Any]) -> str:
        shown = places(request)
        return json.dumps({"choice": "A" if said == "first" or shown["A"] == said else "B"})

    run = start(judge)
    stage = run.map(Choose(soft=False), [GIVEN])
    assert [row.score_chosen for row in stage] == ([pair] if pair else [])
    assert stage.ledger.rejected == ({reason: 1} if reason else {})
    assert all(call.sampling.logprobs is None for call in calls(run))


def test_every_pair_is_chosen_from_and_even_ones_are_dropped(start: Start) -> None:
    def judge(request: Request[Any]) -> Completion:
        shown = places(request)
        apart = len(shown["A"]) - len(shown["B"])
        return saying({"A": 0.5 + apart / 10, "B": 0.5 - apart / 10})

    stage = start(judge).map(Choose(), [Candidates(prompt="p", completions=("a", "bb", "cc", "a"))])
    assert [(row.chosen, row.rejected) for row in stage] == [("bb", "a"), ("cc", "a")]
    assert stage.ledger.dropped == {"tie": 1}
    same = start(judge).map(Choose(), [Candidates(prompt="p", completions=("a", "a"))])
    assert same.ledger.rejected == {"tie": 1}


def test_a_preference_may_be_turned_round(start: Start) -> None:
    made = Preference(prompt="p", chosen="bad", rejected="good", meta={"manners": ["kind", "rude"]})
    [row] = start(likes_good(0.8)).map(Choose(), [made])
    assert (row.chosen, row.rejected) == ("good", "bad")
    assert row.meta["manners"] == ["kind", "rude"]


def test_a_server_without_log_probabilities_is_an_error_that_names_the_cure(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"gave no log-probabilities.*soft=False"):
        start(lambda _: "A").map(Choose(), [GIVEN])

    def refusing(_: Request[Any]) -> str:
        raise TeacherError("400: 'logprobs' is not supported with this model")

    with pytest.raises(ConfigError, match=r"refuses to give log-probabilities: 400.*soft=False"):
        start(refusing).map(Choose(), [GIVEN])


@pytest.mark.parametrize(
    ("said", "dropped"),
    [
        (saying({"Well": 0.9, "I": 0.1}), "verdict without a label"),
        (Completion("", finish_reason="stop"), "verdict without a label"),
        (Completion("", refusal="no"), "verdict refused"),
    ],
)
def test_a_judge_who_says_no_label_abstains(start: Start, said: Completion, dropped: str) -> None:
    stage = start(lambda _: said).map(Choose(), [GIVEN])
    assert stage.ledger.rejected == {"judge abstained": 1}
    assert stage.ledger.dropped == {dropped: 2}


def test_one_order_alone_makes_no_preference(start: Start) -> None:
    def judge(request: Request[Any]) -> Completion:
        return likes_good(0.9)(request) if places(request)["A"] == "good" else saying({"Hm": 1.0})

    assert start(judge).map(Choose(), [GIVEN]).ledger.rejected == {"judge abstained": 1}


def test_a_replay_asks_nothing_and_gives_the_same(tmp_path: Path) -> None:
    records = [Candidates(prompt=f"é{n}🙂", completions=("good", "bad", "x" * 100_000)) for n in range(10)]
    found: list[list[Preference]] = []
    for _ in range(2):
        judge = FunctionTeacher(likes_good(0.75), "judge")
        with Run(tmp_path / "run", judge=judge, quiet=True) as run:
            found.append(list(run.map(Choose(principles=("one", "two", "three")), records)))
    assert found[0] == found[1]
    assert found[0]
    assert judge.calls == []


# Classes


def of_two(request: Request[Any]) -> Completion:
    """A judge who finds `positive` likely, wherever it stands, and likes the first letter a little."""
    options = dict(re.findall(r"^(\w): (\w+)", request.messages[-1].text, re.MULTILINE))
    chances = {letter: 0.6 if name == "positive" else 0.2 for letter, name in options.items()}
    chances["A"] += 0.2
    return saying(chances)


def test_a_soft_label_is_averaged_over_orders(start: Start) -> None:
    run = start(of_two)
    [row] = run.map(Classify({"positive": "likes it", "negative": ""}), [Document(text="Fine!", meta={"from": "x"})])
    assert isinstance(row, Labelled)
    assert (row.text, row.label, row.meta) == ("Fine!", "positive", {"from": "x"})
    assert row.soft_label == pytest.approx({"positive": 0.7, "negative": 0.3})
    assert len(calls(run)) == 2
    assert "positive (likes it)" in calls(run)[0].messages[-1].text


def test_instructions_and_pairs_are_classified_and_hard_choices_have_no_soft_label(start: Start) -> None:
    def judge(request: Request[Any]) -> str:
        options = dict(re.findall(r"^(\w): (\w+)", request.messages[-1].text, re.MULTILINE))
        best = "no" if "Snow" in request.messages[-1].text else "yes"
        return json.dumps({"choice": next(letter for letter, name in options.items() if name == best)})

    run = start(judge)
    strategy = Classify({"yes": "", "no": ""}, question="Does the first entail the second?", soft=False)
    rows: list[Any] = [Instruction(prompt="Rain."), Labelled(text="Rain.", text_pair="Snow.", label="?")]
    said = [row for record in rows for row in run.map(strategy, [record])]
    assert [(row.text, row.text_pair, row.label, row.soft_label) for row in said] == [
        ("Rain.", None, "yes", {}),
        ("Rain.", "Snow.", "no", {}),
    ]


def test_a_judge_of_letters_alone_gives_no_class(start: Start) -> None:
    stage = start(lambda _: json.dumps({"choice": "A"})).map(
        Classify({"x": "", "y": "", "z": ""}, soft=False, repeats=3), [Document(text="t")]
    )
    assert stage.ledger.rejected == {"tie": 1}
    stage = start(lambda _: "?").map(
        Classify({"x": "", "y": ""}, soft=False, policy=Policy(repairs=0)), [Document(text="t")]
    )
    assert stage.ledger.rejected == {"judge abstained": 1}


# Label tokens


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([{"A": 0.75, "B": 0.25}], 0.75),
        ([{" A": 0.5, "A": 0.1, "\u0120B": 0.2}], 0.75),
        ([{"(": 0.9, "A": 0.1}, {"A": 0.8, "B": 0.2}], 0.8),
        ([{"\n": 1.0}, {"**A": 0.6, "B": 0.2}], 0.75),
        ([{"a": 0.9, "A": 0.06, "B": 0.02}], 0.75),
        ([{"A": 0.6, "The": 0.2}], 0.75),  # no more than the least of those that are told
        ([{"A": 0.99, "The": 0.01}], 1.0),  # and no more than what they leave over
        ([{"A": 1.0, "B": 0.0}], 1.0),
    ],
)
def test_spellings_count_together_and_what_is_not_told_gets_the_least(
    tokens: list[dict[str, float]], expected: float
) -> None:
    shares = probabilities(saying(*tokens), ("A", "B"))
    assert shares is not None
    assert shares["A"] == pytest.approx(expected, abs=1e-6)


def test_a_token_without_alternatives_is_certain_of_itself_alone() -> None:
    alone = Completion("A", logprobs=({"token": "A", "logprob": -0.1},))
    assert probabilities(alone, ("A", "B")) == pytest.approx({"A": math.exp(-0.1), "B": 1 - math.exp(-0.1)})
    assert probabilities(Completion("A", logprobs=({"token": "A", "logprob": None},)), ("A", "B")) is None


@given(st.dictionaries(st.sampled_from(["A", " A", "B", "C", "x", "\n", "(A"]), st.floats(1e-12, 1.0), min_size=1))
def test_probabilities_are_shares_of_all_labels_or_nothing(chances: dict[str, float]) -> None:
    total = sum(chances.values())
    shares = probabilities(saying({name: chance / total for name, chance in chances.items()}), ("A", "B", "C"))
    if shares is not None:
        assert set(shares) == {"A", "B", "C"}
        assert sum(shares.values()) == pytest.approx(1.0)
        assert all(0 <= share <= 1 for share in shares.values())
    else:
        assert not {name.strip("( \n") for name in chances} & {"A", "B", "C"}


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: Choose(principles="Is it kind?"), "expected a tuple"),  # type: ignore[arg-type]
        (lambda: Choose(principles=()), "at least one"),
        (lambda: Choose(labels=("A", "A")), "two different texts"),
        (lambda: Choose(clamp=0.5), "less than 0.5"),
        (lambda: Classify({"x": ""}), "2 to 26 names"),
        (lambda: Classify(("x", "y")), "2 to 26 names"),  # type: ignore[arg-type]
        (lambda: Classify({"x": "", "y": ""}, repeats=0), "at least one order"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build()
