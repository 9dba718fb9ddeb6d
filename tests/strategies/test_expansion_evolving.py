"""Evolving: rounds of rewriting, of which what failed leaves no trace but a count."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Message
from synthkd.record import Instruction
from synthkd.request import Completion, Request
from synthkd.run import Run
from synthkd.strategies import Answer, Evolve, Leaked, NoGain, Unanswered
from synthkd.strategies.expansion import (
    CODE,
    EASY_TWIN,
    HARD_TWIN,
    IN_BREADTH,
    IN_DEPTH,
    MATHS_DOWN,
    MATHS_UP,
)
from synthkd.templates import builtin_names
from synthkd.testing import FunctionTeacher

Start = Callable[..., Run]
GIVEN = Instruction(prompt="Name a tree.", meta={"topic": "trees"})
SETS = (IN_DEPTH, IN_BREADTH, CODE, MATHS_UP, MATHS_DOWN, HARD_TWIN, EASY_TWIN)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(teacher: Any, judge: Any = None, folder: str | None = None) -> Run:
        judging = FunctionTeacher(judge, "judge") if judge else None
        place = tmp_path / (folder or f"run{len(opened)}")
        opened.append(Run(place, teacher=FunctionTeacher(teacher), judge=judging, quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run, role: str = "teacher") -> list[Request[Any]]:
    teacher = run.roles[role]
    assert isinstance(teacher, FunctionTeacher)
    return teacher.calls


def operator(request: Request[Any]) -> str:
    return request.prompt.partition("@")[0].rpartition("/")[2]


def longer(request: Request[Any]) -> str:
    """Rewrites by one more word; answers whatever else it is asked."""
    if not request.prompt.startswith("expansion/evolve/"):
        return "An oak is a tree."
    return request.messages[-1].text.rpartition("]\n")[2] + f" {operator(request)}"


def equal(said: bool) -> Callable[[Request[Any]], str]:
    return lambda _: json.dumps({"reason": "none", "equal": said})


def test_each_round_rewrites_the_form_before_it_and_names_its_operator(start: Start) -> None:
    run = start(longer)
    rows = list(run.map(Evolve(rounds=4, eliminate=()), [GIVEN]))
    assert [row.meta["round"] for row in rows] == [1, 2, 3, 4]
    assert all(row.meta["topic"] == "trees" for row in rows)
    before = GIVEN
    for row in rows:
        assert row.prompt == f"{before.prompt} {row.meta['operator']}"
        assert row.parents == tuple(dict.fromkeys((GIVEN.id, before.id)))
        before = row


def test_only_the_last_form_is_kept_where_that_is_asked(start: Start) -> None:
    run = start(longer)
    every = list(run.map(Evolve(rounds=3, eliminate=()), [GIVEN]))
    [last] = run.map(Evolve(rounds=3, eliminate=(), keep="last"), [GIVEN])
    assert last == every[-1].model_copy(update={"parents": (GIVEN.id,)})
    assert len(calls(run)) == 3


def test_operators_are_drawn_by_the_record_from_the_whole_set(start: Start) -> None:
    run = start(longer)
    seeds = [Instruction(prompt=f"Name {n} trees.") for n in range(60)]
    first = [row.meta["operator"] for row in run.map(Evolve(rounds=1, eliminate=()), seeds)]
    assert set(first) == set(IN_DEPTH | IN_BREADTH)
    assert first == [row.meta["operator"] for row in run.map(Evolve(rounds=1, eliminate=()), reversed(seeds))][::-1]


@pytest.mark.parametrize("operators", SETS, ids=lambda operators: next(iter(operators)))
def test_every_operator_shows_the_instruction_and_no_set_is_without_its_files(start: Start, operators: Any) -> None:
    for name in operators:
        run = start(longer)
        run.map(Evolve({name: operators[name]}, rounds=1, eliminate=()), [GIVEN])
        assert calls(run)[0].messages[-1].text.endswith("]\nName a tree.")


def test_the_sets_hold_every_operator_file_once() -> None:
    files = [name for name in builtin_names() if name.startswith("expansion/evolve/")]
    assert sorted(file for operators in SETS for file in operators.values()) == files


def test_operators_of_one_s_own_stand_beside_the_built_in_ones(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "rhyme.jinja"
    text = "{% block user %}Rhyme it for {{ topic }}.\n[I]\n{{ instruction }}{% endblock %}"
    path.write_text("{# variables: instruction, topic; source: this test #}" + text)
    strategy = Evolve(IN_BREADTH | {"rhyme": path}, rounds=3, eliminate=())
    run = start(longer)
    rows = [row for n in range(9) for row in run.map(strategy, [GIVEN.model_copy(update={"prompt": f"{n}?"})])]
    assert {row.meta["operator"] for row in rows} == {"broaden", "rhyme"}
    with pytest.raises(PromptError, match="wants 'topic'"):
        run.map(strategy, [Instruction(prompt="a")])


def test_what_failed_leaves_the_earlier_form_to_another_operator(start: Start) -> None:
    """The first operator asked always fails, so the second round begins with the instruction itself."""
    seen: list[str] = []

    def teacher(request: Request[Any]) -> str:
        seen.append(operator(request))
        return "#Rewritten Prompt#: Name an oak." if seen[-1] == seen[0] else longer(request)

    stage = start(teacher).map(Evolve(IN_DEPTH, rounds=3, eliminate=(Leaked(),)), [GIVEN])
    assert stage[0].meta["round"] == 2
    assert stage[0].prompt == f"Name a tree. {seen[1]}"
    assert seen[1] != seen[0]
    assert stage.ledger.dropped["evolution leaked prompt"] >= 1


def test_an_evolution_of_which_nothing_holds_rejects_its_record_and_asks_no_operator_twice(start: Start) -> None:
    run = start(lambda _: "The given prompt is fine.")
    stage = run.map(Evolve(IN_DEPTH, rounds=99), [GIVEN])
    assert stage.ledger.rejected == {"never evolved": 1}
    assert stage.ledger.dropped == {"evolution leaked prompt": 5}
    assert sorted(map(operator, calls(run))) == sorted(IN_DEPTH)
    assert "leaked prompt" in next(iter(stage.rejects)).detail


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Completion("", refusal="no"), "refused"),
        ("", "empty reply"),
        (Completion("a", finish_reason="length"), "truncated"),
    ],
)
def test_a_rewriting_that_cannot_be_used_fails_like_any_other(start: Start, reply: Any, reason: str) -> None:
    stage = start(lambda _: reply).map(Evolve(IN_BREADTH, eliminate=()), [GIVEN])
    assert stage.ledger.rejected == {"never evolved": 1}
    assert stage.ledger.dropped == {f"evolution {reason}": 1}


def test_a_judge_eliminates_what_gained_nothing(start: Start) -> None:
    run = start(longer, equal(True))
    assert run.map(Evolve(IN_BREADTH), [GIVEN]).ledger.dropped == {"evolution nothing gained": 1}
    said = calls(run, "judge")[0].messages[-1].text
    assert "[First]\nName a tree.\n\n[Second]\nName a tree. broaden" in said
    assert len(start(longer, equal(False)).map(Evolve(IN_BREADTH, rounds=2), [GIVEN])) == 2


def test_the_same_text_gains_nothing_without_a_judge_being_asked(start: Start) -> None:
    run = start(lambda _: " name a  tree.", equal(False))
    assert run.map(Evolve(IN_BREADTH), [GIVEN]).ledger.dropped == {"evolution nothing gained": 1}
    assert calls(run, "judge") == []


def test_a_judge_that_cannot_be_read_eliminates_nothing(start: Start) -> None:
    stage = start(longer, lambda _: "Who knows.").map(Evolve(IN_BREADTH, rounds=1, eliminate=(NoGain(),)), [GIVEN])
    assert len(stage) == 1
    assert stage.ledger.dropped == {"verdict unreadable reply": 1}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("I am sorry, but there is no such tree.", False),
        ("Sorry! " + "word " * 80, True),
        ("So, what of it?", False),
        ("... !!", False),
        (Completion("", refusal="no"), False),
        ("No.", True),
        ("4", True),
        ("木です。", True),
        (Completion("An oak is", finish_reason="length"), True),
    ],
)
def test_an_instruction_that_is_not_answered_is_eliminated(start: Start, answer: Any, kept: bool) -> None:
    def teacher(request: Request[Any]) -> Any:
        return answer if request.prompt.startswith("labeling/answer") else longer(request)

    stage = start(teacher).map(Evolve(IN_BREADTH, rounds=1, eliminate=(Unanswered(),)), [GIVEN])
    assert stage.ledger.rejected == ({} if kept else {"never evolved": 1})
    assert stage.ledger.dropped == ({} if kept else {"evolution unanswered": 1})


def test_the_answer_that_was_looked_at_is_not_paid_for_again(start: Start) -> None:
    run = start(longer)
    evolved = run.map(Evolve(rounds=2, eliminate=(Unanswered(),)), [GIVEN])
    spent = len(calls(run))
    assert len(run.map(Answer(), evolved)) == 2
    assert len(calls(run)) == spent == 4


def test_words_that_were_there_before_are_no_leak(start: Start) -> None:
    record = Instruction(prompt="Explain what a given prompt is.")
    assert len(start(longer).map(Evolve(rounds=1, eliminate=(Leaked(),)), [record])) == 1


def test_a_gold_answer_does_not_travel_to_another_problem(start: Start) -> None:
    class Problem(Instruction):
        gold: str
        level: int

    [row] = start(longer).map(Evolve(MATHS_UP, rounds=1, eliminate=()), [Problem(prompt="1 + 1?", gold="2", level=1)])
    assert type(row) is Instruction
    assert row.meta.keys() == {"level", "operator", "round"}


def test_a_conversation_evolves_in_its_last_turn(start: Start) -> None:
    talk = (Message("system", "Be brief."), Message("user", "Name a tree."))
    [row] = start(longer).map(Evolve(IN_BREADTH, rounds=1, eliminate=()), [Instruction(prompt=talk)])
    assert row.prompt == (talk[0], Message("user", "Name a tree. broaden"))


def test_an_evolution_replays_without_a_call(start: Start) -> None:
    seeds = [Instruction(prompt=text) for text in ("Nënne 木.", "Name a bee.", "x " * 500_000)]
    rows = []
    for _ in range(2):
        run = start(longer, equal(False), folder="one")
        rows.append([row.model_dump() for row in run.map(Evolve(), seeds)])
        run.close()
    assert rows[0] == rows[1]
    assert len(rows[0]) == 12
    assert calls(run) == calls(run, "judge") == []


def test_no_records_and_blank_ones_cost_nothing(start: Start) -> None:
    run = start(longer)
    assert len(run.map(Evolve(), [])) == 0
    assert run.map(Evolve(), [Instruction(prompt=" ")]).ledger.rejected == {"no text": 1}
    assert calls(run) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rounds": 0}, "at least 1"),
        ({"keep": "some"}, "'all' or 'last'"),
        ({"operators": {}}, "expected at least one"),
    ],
)
def test_an_evolution_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Evolve(**wrong)
    with pytest.raises(PromptError, match="no built-in prompt"):
        Evolve({"mine": "expansion/evolve/mine"})
