"""Rejection sampling: only what agrees with the known answer is kept, and a hint helps where nothing does."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strategy_runs import asked, last, opened, replays

from synthkd.errors import ConfigError, PromptError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction, Record
from synthkd.request import Completion, Request, Sampling
from synthkd.strategies import Answer, Correct, ProgramOfThought, Rationale, Sample, Verified
from synthkd.verify import matches

GOLD = Prompt("labeling/gold", str)


class Sum(Instruction):
    answer: str | int | None


SUM = Sum(prompt="What is 2 + 2?", answer=4)


def saying(*texts: str | Completion) -> Callable[[Request[Any]], str | Completion]:
    said = iter(texts)
    return lambda _: next(said)


def test_tries_end_with_the_first_completion_that_agrees(tmp_path: Path) -> None:
    with opened(tmp_path, saying("It is 5.", "", "The answer is 4.", "never asked")) as run:
        stage = run.map(Verified(Answer(), tries=8), [SUM])
        [row] = stage
        assert len(asked(run)) == 3
        assert stage.ledger.dropped == {"wrong answer": 1, "empty reply": 1}
    assert row == Demonstration(
        parents=(SUM.id,), prompt=SUM.prompt, completion="The answer is 4.", meta={"answer": 4, "tries": 3}
    )


def test_a_replay_takes_the_same_tries_and_asks_nobody(tmp_path: Path) -> None:
    numbers = iter(range(100))
    records: list[Record] = [Sum(prompt=f"What is 0 + {n}?", answer=n % 6) for n in range(12)]
    rows = replays(tmp_path, Verified(Answer(), tries=5), records, lambda _: str(next(numbers) % 6))
    assert 0 < len(rows) <= 12
    assert all(row.completion == str(row.meta["answer"]) for row in rows)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(("It is 5.", "It is 6."), "wrong answer"), (("Who knows?", "I do not."), "no final answer")],
)
def test_a_record_without_any_right_completion_is_rejected(tmp_path: Path, texts: Any, reason: str) -> None:
    with opened(tmp_path, saying(*texts)) as run:
        stage = run.map(Verified(Answer(), tries=2), [SUM])
        assert stage.ledger.rejected == {reason: 1}
        assert stage.ledger.dropped == {}


def test_a_record_all_of_whose_tries_fail_is_rejected_for_that(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "no JSON") as run:
        assert run.map(Verified(Rationale(), tries=2), [SUM]).ledger.rejected == {"unreadable reply": 1}


def test_several_right_and_different_completions_may_be_kept(tmp_path: Path) -> None:
    with opened(tmp_path, saying("so 4", "so 4", "5", "thus 4", "not asked")) as run:
        rows = list(run.map(Verified(Answer(), tries=4, most=2), [SUM]))
        assert [row.completion for row in rows] == ["so 4", "thus 4"]
        assert [row.meta["tries"] for row in rows] == [4, 4]


def test_a_hint_is_given_where_all_tries_are_wrong_and_no_student_sees_it(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        knows = "correct final answer is 4" in last(request)
        return '{"reasoning": "2 + 2", "answer": "%s"}' % ("4" if knows else "5")

    with opened(tmp_path, student=say) as run:
        stage = run.map(Verified(Rationale(role="student"), tries=2, hint=GOLD), [SUM])
        [row] = stage
        assert len(asked(run, "student")) == 3
        assert stage.ledger.dropped == {"wrong answer": 2}
    assert (row.prompt, row.completion, row.reasoning) == ("What is 2 + 2?", "4", "2 + 2")
    assert row.privileged_context is not None
    assert "correct final answer is 4" in row.privileged_context


def test_what_a_hint_gives_is_checked_as_well(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "It is 5.") as run:
        stage = run.map(Verified(Answer(), tries=1, hint=GOLD), [SUM])
        assert stage.ledger.rejected == {"wrong answer": 1}
        assert len(asked(run)) == 2


def test_each_of_several_candidates_is_looked_at(tmp_path: Path) -> None:
    said = saying(*(Completion(str(n), reasoning=f"thought {n}") for n in (3, 5, 6, 4, 4)))
    with opened(tmp_path, said) as run:
        [row] = run.map(Verified(Sample(2), tries=2), [SUM])
        assert (row.completion, row.reasoning) == ("4", "thought 4")
        assert row.parents[0] == SUM.id


def test_a_seeded_sampling_says_something_else_in_each_try(tmp_path: Path) -> None:
    with opened(tmp_path, saying("5", "6", "4")) as run:
        run.map(Verified(Answer(sampling=Sampling(seed=7)), tries=3), [SUM])
        seeds = [request.sampling.seed for request in asked(run)]
        assert len(set(seeds)) == 3
        assert seeds[0] == 7


def test_a_short_answer_agrees_as_it_stands_and_a_gold_solution_is_read(tmp_path: Path) -> None:
    records = [
        Sum(prompt="Capital of France?", answer="Paris"),
        Sum(prompt="How many?", answer="4 and 4 are 8.\n#### 8"),
    ]
    with opened(tmp_path, lambda request: "paris" if "France" in last(request) else "The answer is 8.") as run:
        assert len(run.map(Verified(Answer()), records)) == 2


def test_another_comparison_and_symbolic_mathematics(tmp_path: Path) -> None:
    record = Sum(prompt="Double x.", answer="2x")
    with opened(tmp_path, lambda _: r"\boxed{x + x}") as run:
        assert len(run.map(Verified(Answer(), tries=1), [record])) == 0
        assert len(run.map(Verified(Answer(), tries=1, by=lambda found, gold: len(found) > len(gold)), [record])) == 1
        pytest.importorskip("math_verify")
        assert len(run.map(Verified(Answer(), tries=1, by=matches), [record])) == 1


def test_a_program_is_run_by_what_is_injected_and_never_again_in_a_replay(tmp_path: Path) -> None:
    ran: list[tuple[str, object]] = []

    async def verify(program: str, known: object) -> str:
        ran.append((program, known))
        await asyncio.sleep(0)
        return "passed" if "2 + 2" in program else ""

    programs = iter(["print(5)", "print(2 + 2)"])
    strategy = Verified(ProgramOfThought(), gold="tests", verify=verify)
    record = Instruction(prompt="What is 2 + 2?", meta={"tests": ["assert x == 4"]})
    [row] = replays(tmp_path, strategy, [record], lambda _: json.dumps({"program": next(programs)}))
    assert row.completion == "print(2 + 2)"
    assert ran == [("print(5)", ["assert x == 4"]), ("print(2 + 2)", ["assert x == 4"])]


def test_a_verifier_may_be_a_plain_function_and_a_record_without_anything_to_verify_by_is_rejected(
    tmp_path: Path,
) -> None:
    def verify(completion: str, known: int) -> bool:
        return len(completion) == known

    with opened(tmp_path, lambda _: "four") as run:
        stage = run.map(Verified(Answer(), verify=verify), [SUM, Sum(prompt="?", answer=None)])
        assert (len(stage), stage.ledger.rejected) == (1, {"no gold answer": 1})
        stage = run.map(Verified(Answer(), tries=1, verify=verify, hint=GOLD), [Sum(prompt="?", answer=5)])
        assert stage.ledger.rejected == {"wrong answer": 1}


def test_a_function_that_gives_a_coroutine_must_be_async_itself(tmp_path: Path) -> None:
    async def verify(program: str, known: object) -> bool:
        return True

    with opened(tmp_path, lambda _: "a") as run, pytest.raises(ConfigError, match="async def"):
        run.map(Verified(Answer(), verify=lambda text, known: verify(text, known)), [SUM])


def test_a_record_without_known_answer_is_refused_first_and_rejected_later(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "4") as run:
        with pytest.raises(ConfigError, match=r"looked for in 'answer'.*it has"):
            run.map(Verified(Answer()), [Instruction(prompt="a")])
        with pytest.raises(PromptError, match="wants 'topic'"):
            run.map(Verified(Answer(), hint=_hint(tmp_path)), [SUM])
        assert asked(run) == []
        stage = run.map(Verified(Answer()), [SUM, Sum(prompt="?", answer=None), Sum(prompt="!", answer=" ")])
        assert stage.ledger.rejected == {"no gold answer": 2}


def _hint(folder: Path) -> Prompt[str]:
    path = folder / "hint.jinja"
    text = "{# variables: shown, topic; source: this test #}{% block user %}{{ shown }} {{ topic }}{% endblock %}"
    path.write_text(text)
    return Prompt(path, str)


@pytest.mark.parametrize("options", [{"tries": 0}, {"most": 0}])
def test_numbers_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Verified(Answer(), **options)
    with pytest.raises(ConfigError, match="at least one"):
        Correct(most=0)


def test_no_records_unicode_and_a_very_long_text(tmp_path: Path) -> None:
    assert replays(tmp_path / "a", Verified(Answer()), [], lambda _: "4") == []
    records: list[Record] = [Sum(prompt="漢字 🦊?", answer="狐"), Sum(prompt="x" * 1_000_000, answer=7)]
    rows = replays(tmp_path / "b", Verified(Answer(), tries=1), records, _long)
    assert [len(row.completion) for row in rows] == [1, 1_000_016]


def _long(request: Request[Any]) -> str:
    return "狐" if "🦊" in last(request) else "y" * 1_000_000 + "\nThe answer is 7"


# Candidates that are there already.


def given(*completions: str, answer: Any = 4, **more: Any) -> Candidates:
    return Candidates(prompt="What is 2 + 2?", completions=completions, meta={"answer": answer}, **more)


def test_the_right_candidates_become_demonstrations_with_the_share_that_is_right(tmp_path: Path) -> None:
    record = given("so 4", "so 5", "so 4", "thus 4", reasonings=("a", "b", "a", None))
    with opened(tmp_path) as run:
        rows = list(run.map(Correct(), [record]))
        assert [(row.completion, row.reasoning) for row in rows] == [("so 4", "a"), ("thus 4", None)]
        assert {row.meta["pass_rate"] for row in rows} == {0.75}
        assert len(run.map(Correct(most=1), [record])) == 1


def test_candidates_that_are_all_wrong_reject_their_record(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        stage = run.map(Correct(), [given("5", "6"), given("who?", "you?"), given("4", answer=None)])
        assert stage.ledger.rejected == {"wrong answer": 1, "no final answer": 1, "no gold answer": 1}
