"""Self-knowledge: how hard a question is for the student, and what it and others think of its samples."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_runs import asked, last, opened, replays

from synthkd.errors import ConfigError, PromptError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Instruction, Ranking, Record
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.strategies import Difficulty, Rationale, Rewarded, Sample, SelfReward, Verified, chain


class Sum(Instruction):
    answer: int


SUM = Sum(prompt="What is 2 + 2?", answer=4, meta={"topic": "sums"})


def test_the_pass_rate_is_the_share_of_draws_that_agree(tmp_path: Path) -> None:
    said = iter(["The answer is 4.", "5", "", "so it is 4"])
    [row] = replays(tmp_path, Difficulty(4), [SUM], student=lambda _: next(said))
    assert row == Sum(prompt=SUM.prompt, answer=4, parents=(SUM.id,), meta={"topic": "sums", "pass_rate": 0.5})


def test_the_gap_is_how_much_better_another_role_is(tmp_path: Path) -> None:
    said = iter(["4", "5", "6", "7"])
    with opened(tmp_path, lambda _: "4", student=lambda _: next(said)) as run:
        [row] = run.map(Difficulty(4, than="teacher"), [SUM])
        assert {name: row.meta[name] for name in ("pass_rate", "teacher_pass_rate", "gap")} == {
            "pass_rate": 0.25,
            "teacher_pass_rate": 1.0,
            "gap": 0.75,
        }


def test_a_student_none_of_whose_draws_can_be_read_is_never_right(tmp_path: Path) -> None:
    with opened(tmp_path, student=lambda _: Completion("4 and", finish_reason="length")) as run:
        stage = run.map(Difficulty(3), [SUM])
        assert stage[0].meta["pass_rate"] == 0.0
        assert stage.ledger.dropped == {"truncated": 3}


def test_a_difficulty_wants_a_known_answer_and_a_template_that_fits(tmp_path: Path) -> None:
    with opened(tmp_path, student=lambda _: "4") as run:
        with pytest.raises(ConfigError, match="looked for in 'gold'"):
            run.map(Difficulty(gold="gold"), [SUM])
        with pytest.raises(PromptError, match="wants 'answer'"):
            run.map(Difficulty(prompt=Prompt("self_knowledge/reward", str), gold="topic"), [_bare()])
        assert asked(run, "student") == []
    with pytest.raises(ConfigError, match="n=0"):
        Difficulty(0)


def _bare() -> Instruction:
    return Instruction(prompt="a", meta={"topic": "t"})


def candidates(*texts: str, **more: Any) -> Candidates:
    return Candidates(prompt="Say a.", completions=texts, meta={"topic": "letters"}, **more)


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with opened(tmp_path_factory.mktemp("runs") / "shared") as run:
        yield run


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=3), st.floats() | st.none() | st.integers(-3, 3), min_size=1, max_size=6
        ),
        max_size=4,
    )
)
def test_rewards_rank_every_text_that_has_one_and_the_others_abstain(one_run: Run, tables: Any) -> None:
    records = [Candidates(prompt=str(n), completions=tuple(table), meta={"t": n}) for n, table in enumerate(tables)]
    stage = one_run.map(Rewarded(lambda record, text: tables[record.meta["t"]][text]), records)
    rows = {row.parents[0]: row for row in stage}
    for record, table in zip(records, tables, strict=True):
        finite = {text: reward for text, reward in table.items() if reward is not None and math.isfinite(reward)}
        assert (record.id in rows) == (len(finite) >= 2)
        if record.id in rows:
            row = rows[record.id]
            assert dict(zip(row.completions, row.scores, strict=True)) == finite
            assert list(row.scores) == sorted(row.scores, reverse=True)


def test_an_async_reward_is_asked_once_and_not_again_in_a_replay(tmp_path: Path) -> None:
    asked_for: list[str] = []

    async def length(record: Candidates, text: str) -> float:
        asked_for.append(text)
        return float(len(text))

    [row] = replays(tmp_path, Rewarded(length), [candidates("aa", "aaaa", "aa", "a")])
    assert row == Ranking(
        parents=row.parents,
        prompt="Say a.",
        completions=("aaaa", "aa", "a"),
        scores=(4.0, 2.0, 1.0),
        meta={"topic": "letters"},
    )
    assert asked_for == ["aa", "aaaa", "a"]


def verdict(score: object) -> str:
    return f'{{"justification": "because", "score": {score}}}'


def test_a_student_ranks_its_own_samples_by_the_mean_of_several_verdicts(tmp_path: Path) -> None:
    scores = {"aa": iter([5, 4, 3]), "a": iter([1, 2, 2])}

    def judge(request: Request[Any]) -> str:
        return verdict(next(scores["aa" if "aa" in last(request) else "a"]))

    [row] = replays(tmp_path, SelfReward(repeats=3), [candidates("a", "aa", "a")], student=judge)
    assert (row.completions, row.scores) == (("aa", "a"), (4.0, 5 / 3))


def test_a_verdict_that_cannot_be_read_abstains_and_is_counted(tmp_path: Path) -> None:
    def judge(request: Request[Any]) -> str:
        text = last(request)
        return "who knows" if "bad" in text else verdict(9) if "odd" in text else verdict(len(text) % 5)

    with opened(tmp_path, student=judge) as run:
        stage = run.map(
            SelfReward(repeats=2, policy=Policy(repairs=0)),
            [candidates("a", "bb", "bad"), candidates("bad", "odd"), candidates("only")],
        )
        assert [len(row.completions) for row in stage] == [2]
        assert stage.ledger.rejected == {"too few rewards": 2}
        assert stage.ledger.dropped == {"verdict unreadable reply": 6}


def test_a_self_reward_checks_its_template_and_its_arguments(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: answer, x; source: this test #}{% block user %}{{ answer }}{{ x }}{% endblock %}")
    from synthkd.strategies import AdditiveScore

    with opened(tmp_path / "run", student=lambda _: "a") as run, pytest.raises(PromptError, match="wants 'x'"):
        run.map(SelfReward(prompt=Prompt(path, AdditiveScore)), [candidates("a", "b")])
    with pytest.raises(ConfigError, match="repeats=0"):
        SelfReward(repeats=0)


def test_a_student_samples_and_ranks_itself_in_one_chain(tmp_path: Path) -> None:
    said = iter(["short", "a longer one"])

    def student(request: Request[Any]) -> str:
        return next(said) if request.reply is str else verdict(5 if "longer" in last(request) else 1)

    strategy = chain(Sample(2, roles=("student",)), SelfReward(repeats=1))
    [row] = replays(tmp_path, strategy, [Instruction(prompt="Write.")], student=student)
    assert row.completions == ("a longer one", "short")


def test_training_rounds_are_a_loop_of_the_program_and_a_student_that_learned_knows_more(tmp_path: Path) -> None:
    """STaR: each round keeps what the student gets right, with a hint for the rest, and trains on it."""
    sums = [Sum(prompt=f"What is {a} + {b}?", answer=a + b) for a in range(3) for b in range(3)]
    known: dict[str, str] = {}

    def student(request: Request[Any]) -> str:
        question = next(sum for sum in sums if sum.instruction in last(request))
        hinted = "correct final answer is" in last(request) and question.answer < 4
        guess = str(question.answer) if hinted else known.get(question.instruction, "0")
        return f'{{"reasoning": "so", "answer": "{guess}"}}'

    strategy = Verified(Rationale(role="student"), tries=1, hint=Prompt("labeling/gold", str))
    kept = []
    for number in range(2):
        with opened(tmp_path / f"round{number}", student=student) as run:
            stage = run.map(strategy, sums)
            kept.append((len(stage), sum(row.privileged_context is not None for row in stage)))
            known |= {str(row.prompt): row.completion for row in stage}  # training, in a word
    assert kept == [(8, 7), (8, 0)]


@pytest.mark.parametrize("strategy", [Difficulty(2), SelfReward(2), Rewarded(lambda record, text: len(text))])
def test_no_records_unicode_and_a_very_long_text(tmp_path: Path, strategy: Any) -> None:
    def student(request: Request[Any]) -> str:
        return "4" if request.reply is str else verdict(3)

    assert replays(tmp_path / "none", strategy, [], student=student) == []
    records: list[Record] = [
        Candidates(prompt="漢字 🦊", completions=("{{ x }}", "🦊"), meta={"answer": 4}),
        Candidates(prompt="x" * 1_000_000, completions=("y" * 1_000_000, "4"), meta={"answer": 4}),
    ]
    assert len(replays(tmp_path / "some", strategy, records, student=student)) == 2
