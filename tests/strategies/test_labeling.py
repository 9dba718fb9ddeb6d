"""Labeling: answers, rationales, several answers, and the one on which most agree."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError, PromptError, TeacherError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction
from synthkd.request import Completion, Policy, Request, Sampling
from synthkd.run import Run
from synthkd.strategies import Answer, Rationale, Sample, SelfConsistency
from synthkd.testing import FunctionTeacher

Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Opens a run: `start(answer)`, with further roles by name."""
    opened: list[Run] = []

    def run(answer: Any = None, **roles: Any) -> Run:
        teacher = FunctionTeacher(answer) if answer else None
        players = {role: FunctionTeacher(reply, role) for role, reply in roles.items()}
        opened.append(Run(tmp_path / f"run{len(opened)}", teacher=teacher, roles=players, quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def asked(run: Run, role: str = "teacher") -> list[Request[Any]]:
    teacher = run.roles[role]
    assert isinstance(teacher, FunctionTeacher)
    return teacher.calls


class Sum(Instruction):
    gold: int


GIVEN = Sum(prompt="What is 2 + 2?", gold=4, meta={"topic": "sums"})


def test_an_answer_is_the_teacher_s_text_with_its_thinking_beside_it(start: Start) -> None:
    run = start(lambda _: Completion("<think>two and two</think>\n\n4", finish_reason="stop"))
    [row] = run.map(Answer(), [GIVEN])
    assert row == Demonstration(
        parents=(GIVEN.id,),
        prompt="What is 2 + 2?",
        completion="4",
        reasoning="two and two",
        meta={"topic": "sums", "gold": 4},
    )
    assert asked(run)[0].messages == (Message("user", "What is 2 + 2?"),)


def test_a_conversation_stays_a_conversation(start: Start) -> None:
    talk = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "What is 2 + 2?"))
    [row] = start(lambda _: "4").map(Answer(), [Instruction(prompt=talk)])
    assert row.prompt == talk


def test_sampling_policy_and_role_are_the_strategy_s(start: Start) -> None:
    run = start(None, qwen=lambda _: Completion("once upon", finish_reason="length"))
    strategy = Answer(sampling=Sampling(max_tokens=2), policy=Policy(truncated="keep"), role="qwen")
    assert run.map(strategy, [GIVEN])[0].completion == "once upon"
    assert asked(run, "qwen")[0].sampling == Sampling(max_tokens=2)


@pytest.mark.parametrize("strategy", [Answer, Rationale, Sample])
def test_a_template_of_one_s_own_is_checked_against_the_first_record(
    start: Start, tmp_path: Path, strategy: Callable[..., Any]
) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: gold; source: this test #}{% block user %}Why {{ gold }}?{% endblock %}")
    run = start(lambda _: '{"reasoning": "r", "answer": "a"}')
    prompt = Prompt(path, strategy().prompt.reply)
    with pytest.raises(PromptError, match="wants 'gold'"):
        run.map(strategy(prompt=prompt), [Instruction(prompt="a"), GIVEN])
    assert asked(run) == []
    run.map(strategy(prompt=prompt), [GIVEN])
    assert asked(run)[0].messages[-1].content.startswith("Why 4?")


def test_a_rationale_s_steps_become_the_reasoning_behind_the_teacher_s_own(start: Start) -> None:
    reply = '<think>easy</think>{"reasoning": "2 + 2 = 4", "answer": "4"}'
    [row] = start(lambda _: reply).map(Rationale(), [GIVEN])
    assert (row.completion, row.reasoning) == ("4", "easy\n\n2 + 2 = 4")
    assert row.meta == {"topic": "sums", "gold": 4}


def test_a_rationale_that_cannot_be_read_rejects_its_record(start: Start) -> None:
    stage = start(lambda _: "The answer is 4.").map(Rationale(), [GIVEN])
    assert stage.ledger.rejected == {"unreadable reply": 1}


def numbered() -> Callable[[Request[Any]], str]:
    numbers = iter(range(1000))
    return lambda _: str(next(numbers))


def test_several_answers_travel_with_their_prompt(start: Start) -> None:
    run = start(numbered())
    [row] = run.map(Sample(3), [GIVEN])
    assert row == Candidates(
        parents=(GIVEN.id,),
        prompt=GIVEN.prompt,
        completions=("0", "1", "2"),
        meta={"topic": "sums", "gold": 4},
    )
    assert [call.sampling.temperature for call in asked(run)] == [0.8]


def test_answers_come_from_each_role_in_turn(start: Start) -> None:
    run = start(None, gpt=lambda _: "g", qwen=lambda _: Completion("q", reasoning="hm"))
    [row] = run.map(Sample(2, roles=("qwen", "gpt")), [GIVEN])
    assert row.completions == ("q", "q", "g", "g")
    assert row.reasonings == ("hm", "hm", None, None)


def test_draws_that_are_lost_are_counted_and_the_others_stay(start: Start) -> None:
    said = iter(["a", "", Completion("", refusal="no"), "b"])
    stage = start(lambda _: next(said)).map(Sample(4), [GIVEN])
    assert stage[0].completions == ("a", "b")
    assert stage.ledger.dropped == {"empty reply": 1, "refused": 1}
    assert stage.ledger.rejected == {}


def test_a_record_all_of_whose_draws_are_lost_is_rejected(start: Start) -> None:
    stage = start(lambda _: Completion("", refusal="no")).map(Sample(4), [GIVEN])
    assert stage.ledger.rejected == {"refused": 1}


def test_at_least_one_draw_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"Sample\(n=0\)"):
        Sample(0)


def test_a_failing_role_rejects_the_record_and_what_the_others_said_is_kept_for_the_next_run(start: Start) -> None:
    def broken(_: Request[Any]) -> str:
        raise TeacherError("400")

    run = start(None, gpt=lambda _: "g", qwen=broken)
    for _ in range(2):
        assert run.map(Sample(2, roles=("gpt", "qwen")), [GIVEN]).ledger.rejected == {"teacher error": 1}
    assert len(asked(run, "gpt")) == 1


# Agreement.


def last_word(text: str) -> str | None:
    return text.split()[-1] if text.split() else None


def agreed(start: Start, completions: list[str], **more: Any) -> Any:
    record = Candidates(prompt="?", completions=tuple(completions), meta={"gold": "4"})
    stage = start().map(SelfConsistency(last_word, **more), [record])
    return stage[0] if len(stage) else next(iter(stage.rejects))


def test_the_answer_with_most_votes_wins_and_its_share_is_its_weight(start: Start) -> None:
    row = agreed(start, ["so 5", "so 4", "thus 4", ""])
    assert (row.completion, row.weight, row.meta) == ("so 4", 0.5, {"gold": "4"})


@pytest.mark.parametrize(
    ("completions", "chosen"),
    [
        (["so 5", "so 7.0", "thus 7"], "so 7.0"),
        (["so 5", "so $7", "thus 7."], "so $7"),
        (["so 1000", "so 2,000", "so 1,000", "so 1001"], "so 1000"),
        (["so 5", r"so \boxed{7}", "thus 7"], r"so \boxed{7}"),
        (["so 5", r"so \frac{1}{2}", "thus 0.50"], r"so \frac{1}{2}"),
        (["Rome", "paris", "Paris"], "paris"),
    ],
)
def test_votes_are_for_a_value_and_not_for_its_spelling(start: Start, completions: list[str], chosen: str) -> None:
    row = agreed(start, completions)
    assert (row.completion, row.weight) == (chosen, pytest.approx(2 / len(completions)))


def test_units_and_white_space_split_no_votes(start: Start) -> None:
    said = ["The answer is 7 apples.", "#### 7", "Answer: 8", "The answer is  New   York", "Answer: new york"]
    for completions, chosen in ((said[:3], said[0]), ([*said[3:], said[2]], said[3])):
        record = Candidates(prompt="?", completions=tuple(completions))
        assert start().map(SelfConsistency(), [record])[0].completion == chosen


def test_the_reasoning_of_the_chosen_completion_comes_along(start: Start) -> None:
    record = Candidates(prompt="?", completions=("so 5", "so 4", "thus 4"), reasonings=("a", "b", None))
    assert start().map(SelfConsistency(last_word), [record])[0].reasoning == "b"


def test_a_tie_of_the_best_is_no_majority(start: Start) -> None:
    reject = agreed(start, ["so 5", "so 4", "thus 5", "thus 4", "or 3"])
    assert reject.reason == "no majority"
    assert "'5' and '4' have 2 votes each" in reject.detail


def test_a_majority_smaller_than_wanted_is_none(start: Start) -> None:
    completions = ["4", "4", "5", "6"]
    assert agreed(start, completions, least=0.5).weight == 0.5
    assert agreed(start, completions, least=0.6).reason == "no majority"


def test_completions_without_any_answer_reject_the_record(start: Start) -> None:
    assert agreed(start, ["", " "]).reason == "no final answer"


def test_a_reject_is_the_same_whoever_answers_first(tmp_path: Path) -> None:
    async def slow(request: Request[Any]) -> Completion:
        await asyncio.sleep(0.05)
        return Completion("", finish_reason="stop")

    async def slower(request: Request[Any]) -> Completion:
        await asyncio.sleep(0.1)
        number = next(numbers)
        return Completion(f"{number}", finish_reason="length" if number % 2 else "stop")

    numbers = count()
    roles = {"a": FunctionTeacher(slow, "a"), "b": FunctionTeacher(lambda _: Completion("", refusal="no"), "b")}
    roles["c"] = FunctionTeacher(slower, "c")
    found = []
    for _ in range(2):
        with Run(tmp_path / "run", roles=roles, quiet=True) as run:
            stage = run.map(Sample(2, roles=("a", "b", "c")), [Instruction(prompt="Say a.")])
            found.append(stage.ledger)
    assert found[0] == found[1]
    assert (found[0].rejected, found[0].dropped) == ({"empty reply": 1}, {"truncated": 1})


def test_an_instruction_without_text_rejects_its_record_and_stops_no_run(start: Start) -> None:
    run = start(lambda request: "fine")
    stage = run.map(Answer(), [Instruction(prompt=" "), Instruction(prompt="Say a."), Instruction(prompt=())])
    assert stage.ledger.rejected == {"nothing to ask": 2}
    assert [row.completion for row in stage] == ["fine"]


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with Run(tmp_path_factory.mktemp("runs") / "shared", quiet=True) as run:
        yield run


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.lists(st.sampled_from(["1", "2", "3", ""]), min_size=1, max_size=7), max_size=5))
def test_a_winner_always_has_more_votes_than_any_other(one_run: Run, sets: list[list[str]]) -> None:
    records = [Candidates(prompt="?", completions=tuple(votes)) for votes in sets]
    stage = one_run.map(SelfConsistency(last_word), records)
    winners: dict[str, Demonstration] = {row.parents[0]: row for row in stage}
    for record in records:
        votes = Counter(filter(None, record.completions)).most_common()
        clear = bool(votes) and (len(votes) == 1 or votes[0][1] > votes[1][1])
        assert clear == (record.id in winners)
        if clear:
            row = winners[record.id]
            assert (row.completion, row.weight) == (votes[0][0], votes[0][1] / len(record.completions))
