"""Revision: texts rewritten until a critic is content."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Record
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.strategies import Critique, Revise, RevisedPair
from synthkd.testing import FunctionTeacher, SchemaTeacher

Start = Callable[..., Run]
GIVEN = Demonstration(prompt="Say a.", completion="v0", reasoning="old", meta={"topic": "letters"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(teacher: Any, **roles: Any) -> Run:
        players = {role: FunctionTeacher(reply, role) for role, reply in roles.items()}
        opened.append(Run(tmp_path / f"run{len(opened)}", teacher=FunctionTeacher(teacher), roles=players, quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run, role: str = "teacher") -> list[Request[Any]]:
    teacher = run.roles[role]
    assert isinstance(teacher, FunctionTeacher)
    return teacher.calls


def told(request: Request[Any]) -> str:
    return request.messages[-1].text


def critique(text: str, fault: bool) -> str:
    return json.dumps({"critique": text, "fault": fault})


def improving(until: int) -> Callable[[Request[Any]], str | Completion]:
    """Writes v1, v2, ... and finds no fault with the one whose number is given."""

    def teacher(request: Request[Any]) -> str | Completion:
        version = next(n for n in range(9, -1, -1) if f"v{n}" in told(request))
        if request.prompt.startswith("feedback/critique"):
            return critique(f"v{version} is {'fine' if version == until else 'poor'}", version != until)
        assert f"v{version} is poor" in told(request)
        return Completion(f"v{version + 1}", reasoning=f"thinking of v{version + 1}", finish_reason="stop")

    return teacher


def test_a_text_is_rewritten_until_the_critic_is_content(start: Start) -> None:
    run = start(improving(2))
    [row] = run.map(Revise(rounds=5), [GIVEN])
    assert row == Demonstration(
        parents=(GIVEN.id,),
        prompt="Say a.",
        completion="v2",
        reasoning="thinking of v2",
        meta={
            "topic": "letters",
            "earlier": ["v0", "v1"],
            "critiques": ["v0 is poor", "v1 is poor", "v2 is fine"],
            "settled": True,
        },
    )
    assert len(calls(run)) == 5


def test_rounds_are_an_upper_limit_and_it_is_said_that_nobody_was_content(start: Start) -> None:
    [row] = start(improving(9)).map(Revise(rounds=2), [GIVEN])
    assert (row.completion, row.meta["settled"], len(row.meta["critiques"])) == ("v2", False, 2)  # type: ignore[arg-type]


def test_what_needs_no_revision_stays_as_it_is(start: Start) -> None:
    run = start(improving(0))
    [row] = run.map(Revise(rounds=3), [GIVEN])
    assert (row.completion, row.reasoning, row.meta["earlier"]) == ("v0", "old", [])
    assert run.map(RevisedPair(), [GIVEN]).ledger.rejected == {"nothing to revise": 1}


def test_the_whole_course_may_be_what_is_learnt(start: Start) -> None:
    [row] = start(improving(1)).map(Revise(rounds=3, keep="all"), [GIVEN])
    assert row.completion == "v0\n\nFeedback: v0 is poor\n\nRevision: v1\n\nFeedback: v1 is fine"
    assert row.meta["earlier"] == ["v0"]


def test_the_revised_text_is_preferred_to_the_original(start: Start) -> None:
    [pair] = start(improving(2)).map(RevisedPair(Revise(rounds=4, keep="all")), [GIVEN])
    assert (pair.chosen, pair.rejected, pair.parents) == ("v2", "v0", (GIVEN.id,))
    assert pair.meta["earlier"] == ["v0", "v1"]


def test_principles_are_drawn_without_repeating_and_seen_by_critic_and_writer(start: Start) -> None:
    run = start(improving(9), judge=improving(9))
    names = ("kindness", "truth", "brevity")
    [row] = run.map(Revise(principles=names, rounds=4), [GIVEN])
    drawn = row.meta["principles"]
    assert isinstance(drawn, list)
    assert set(drawn[:3]) == set(names)
    assert len(drawn) == 4
    for number, principle in enumerate(drawn):
        assert str(principle) in told(calls(run, "judge")[number])
        assert str(principle) in told(calls(run)[number])


def test_a_principle_without_fault_goes_on_to_the_next(start: Start) -> None:
    def teacher(request: Request[Any]) -> str:
        if request.prompt.startswith("feedback/critique"):
            return critique("c", "truth" in told(request))
        return "better"

    [row] = start(teacher).map(Revise(principles=("kindness", "truth", "brevity"), rounds=3), [GIVEN])
    assert (row.completion, row.meta["earlier"], row.meta["critiques"]) == ("better", ["v0"], ["c"] * 3)


def test_a_critique_that_is_there_already_asks_no_critic(start: Start) -> None:
    run = start(lambda request: "better" if "Too vague, says Ada." in told(request) else "?")
    records = [GIVEN.model_copy(update={"meta": {"feedback": "Too vague, says Ada."}}), GIVEN]
    stage = run.map(Revise(given="feedback"), records)
    assert [row.completion for row in stage] == ["better"]
    assert stage.ledger.rejected == {"no critique": 1}
    assert [call.prompt.partition("@")[0] for call in calls(run)] == ["feedback/revise"]


def test_an_instruction_is_revised_in_its_last_turn(start: Start) -> None:
    class Sum(Instruction):
        gold: int

    picture = Image("https://x/y.png")
    talk = (Message("user", "Hi"), Message("assistant", "Yo"), Message("user", ("v0", picture)))
    run = start(improving(1))
    [plain] = run.map(Revise(rounds=2), [Sum(prompt="v0", gold=3)])
    assert (plain.prompt, plain.gold, plain.meta["earlier"]) == ("v1", 3, ["v0"])
    [row] = run.map(Revise(rounds=2), [Instruction(prompt=talk)])
    assert row.prompt == (*talk[:2], Message("user", (picture, "v1")))
    assert "user: Hi" in told(calls(run)[-1])
    with pytest.raises(ConfigError, match="an Instruction has none"):
        run.map(Revise(keep="all"), [Instruction(prompt="v0")])


def test_a_later_round_that_fails_costs_no_earlier_one_and_a_first_one_rejects(start: Start) -> None:
    def teacher(request: Request[Any]) -> str | Completion:
        if "v1" in told(request):
            return Completion("", refusal="no more")
        return improving(9)(request)

    stage = start(teacher).map(Revise(rounds=3), [GIVEN])
    assert (stage[0].completion, stage[0].meta["settled"]) == ("v1", False)
    assert stage.ledger.dropped == {"round refused": 1}
    stage = start(lambda _: "No JSON.").map(Revise(policy=Policy(repairs=0)), [GIVEN])
    assert stage.ledger.rejected == {"unreadable reply": 1}


@pytest.mark.parametrize(
    "strategy",
    [Revise(rounds=3, principles=("a", "b")), RevisedPair(Revise(rounds=2))],
)
def test_a_replay_asks_nothing_and_gives_the_same(tmp_path: Path, strategy: Any) -> None:
    records: list[Record] = [Demonstration(prompt=f"é{n}", completion="多🙂" * n) for n in range(1, 15)]
    found: list[list[Record]] = []
    for _ in range(2):
        teacher = SchemaTeacher()
        with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
            found.append(list(run.map(strategy, records)))
    assert found[0] == found[1]
    assert found[0]
    assert teacher.calls == []


def test_nothing_at_all_and_a_very_long_text_pass(start: Start) -> None:
    run = start(improving(1))
    assert len(run.map(Revise(), [])) == 0
    [row] = run.map(Revise(), [Demonstration(prompt="p", completion="v0 " + "x" * 1_000_000)])
    assert row.completion == "v1"


def test_a_prompt_without_a_user_turn_rejects_its_record_and_asks_nobody(start: Start) -> None:
    run = start(improving(1))
    stage = run.map(Revise(), [Instruction(prompt=(Message("system", "v0"),)), Instruction(prompt=())])
    assert stage.ledger.rejected == {"no user turn": 2}
    assert not calls(run)


def test_a_critic_of_one_s_own_may_say_more(start: Start, tmp_path: Path) -> None:
    class Graded(Critique):
        grade: int

    path = tmp_path / "mine.jinja"
    path.write_text(
        "{# variables: answer, topic; source: this test #}{% block user %}{{ topic }}: {{ answer }}{% endblock %}"
    )
    strategy = Revise(critique=Prompt(path, Graded))
    run = start(lambda request: json.dumps({"critique": "c", "fault": False, "grade": 9}))
    assert run.map(strategy, [GIVEN])[0].completion == "v0"
    assert told(calls(run)[0]) == "letters: v0"
    with pytest.raises(PromptError, match="wants 'topic'"):
        run.map(strategy, [Demonstration(prompt="p", completion="c")])


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: Revise(rounds=0), "at least one"),
        (lambda: Revise(keep="first"), "expected last or all"),  # type: ignore[arg-type]
        (lambda: Revise(principles="be kind"), "expected a tuple of texts"),  # type: ignore[arg-type]
    ],
)
def test_arguments_that_make_no_sense_are_refused(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build()
