"""Playing: observations replay without an environment, and a run that goes on beyond them catches up first."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError, TeacherError
from synthkd.filters import each
from synthkd.message import Message
from synthkd.record import Document, Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Observation, Play
from synthkd.testing import FunctionTeacher


class Corridor:
    """Five doors; behind the third is the prize."""

    made = 0

    def __init__(self, record: Any, first: str = "You stand at door 0. Find the prize.") -> None:
        type(self).made += 1
        self.place, self.first, self.log = 0, first, LOG

    async def reset(self, record: Any) -> str:
        self.log.append("reset")
        return self.first

    async def step(self, action: str) -> Observation:
        self.log.append(action)
        self.place += {"go": 1, "back": -1}.get(action, 0)
        done = self.place == 3
        return Observation(f"You stand at door {self.place}.", 1.0 if done else -0.25, done)


LOG: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()


def deed(action: str, thought: str = "On.") -> str:
    return json.dumps({"thought": thought, "action": action})


def going(*actions: str) -> FunctionTeacher:
    def answer(request: Request[Any]) -> str:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn >= len(actions):
            raise TeacherError("the line is dead")
        return deed(actions[turn])

    return FunctionTeacher(answer)


def played(folder: Path, teacher: Any, *records: Any, **more: Any) -> Any:
    with Run(folder, teacher=teacher, quiet=True) as run:
        stage = run.map(Play(more.pop("environment", Corridor), **more), records or [Instruction(prompt="corridor")])
        return list(stage), stage.ledger


def test_the_way_becomes_a_conversation_with_the_sum_of_rewards(tmp_path: Path) -> None:
    rows, _ = played(tmp_path / "run", going("go", "go", "go"), rules="Say go or back.")
    assert rows[0].messages == (
        Message("system", "Say go or back."),
        Message("user", "You stand at door 0. Find the prize."),
        Message("assistant", "Thought: On.\nAction: go"),
        Message("user", "You stand at door 1."),
        Message("assistant", "Thought: On.\nAction: go"),
        Message("user", "You stand at door 2."),
        Message("assistant", "Thought: On.\nAction: go"),
    )
    assert rows[0].meta == {"reward": 0.5, "last_observation": "You stand at door 3."}


def test_a_replay_needs_no_environment(tmp_path: Path) -> None:
    def nothing(record: Any) -> Any:
        raise AssertionError("an environment was made")

    first, _ = played(tmp_path / "run", going("go", "go", "go"))
    teacher = going("go", "go", "go")
    again, _ = played(tmp_path / "run", teacher, environment=nothing)
    assert first == again
    assert teacher.calls == []


def test_a_stopped_run_takes_the_recorded_actions_again_before_the_first_new_one(tmp_path: Path) -> None:
    _, ledger = played(tmp_path / "run", going("go", "back"))
    assert ledger.rejected == {"teacher error": 1}
    assert LOG == ["reset", "go", "back"]
    LOG.clear()
    rows, _ = played(tmp_path / "run", going("go", "back", "go", "go", "go"))
    assert LOG == ["reset", "go", "back", "go", "go", "go"]
    assert rows[0].messages[-2].text == "You stand at door 2."


def test_the_same_action_after_another_path_is_not_taken_from_the_journal(tmp_path: Path) -> None:
    played(tmp_path / "run", going("go", "go", "go"))
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: ; source: this test #}{% block user %}Begin.{% endblock %}")
    from synthkd.prompt import Prompt
    from synthkd.strategies.acting import Deed

    rows, _ = played(tmp_path / "run", going("back", "go", "go", "go", "go"), prompt=Prompt(path, Deed))
    assert [message.text[-2] for message in rows[0].messages[2::2]] == ["1", "0", "1", "2"]
    assert rows[0].messages[0].text == "You stand at door 0. Find the prize."


def test_an_environment_that_comes_out_otherwise_rejects_the_record_and_says_so(tmp_path: Path) -> None:
    played(tmp_path / "run", going("go"))
    with Run(tmp_path / "run", teacher=going("go", "go", "go"), quiet=True) as run:
        strategy = Play(lambda record: Corridor(record, first="Another world."))
        stage = run.map(strategy, [Instruction(prompt="corridor")])
        assert stage.ledger.rejected == {"diverged": 1}
        [reject] = stage.rejects
        assert "'Another world.'; it had given 'You stand at door 0. Find the prize.'" in str(reject)


def test_not_done_in_time_is_a_reject_and_the_ledger_adds_up(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> str:
        text = request.messages[1].text
        if "bad" in text:
            return "I will not."
        return deed("go" if "good" in text else "wait")

    records = [Document(text=text) for text in ("bad", "good", "slow")]
    rows, ledger = played(
        tmp_path / "run",
        FunctionTeacher(answer),
        *records,
        environment=lambda record: Corridor(record, first=record.text),
        turns=3,
    )
    assert [row.messages[0].text for row in rows] == ["good"]
    assert ledger.rejected == {"unreadable reply": 1, "not finished": 1}


def test_a_filter_selects_by_the_reward(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> str:
        turn = sum(message.role == "assistant" for message in request.messages)
        return deed("wait" if "slow" in request.messages[1].text and turn < 3 else "go")

    records = [Document(text=text) for text in ("quick", "slow")]
    with Run(tmp_path / "run", teacher=FunctionTeacher(answer), quiet=True) as run:
        stage = run.map(Play(lambda record: Corridor(record, first=record.text)), records)
        assert [row.meta["reward"] for row in stage] == [0.5, -0.25]
        assert len(run.filter(each(lambda row: row.meta["reward"] > 0, "no reward"), stage)) == 1


def test_long_and_odd_observations_go_through_and_no_records_give_none(tmp_path: Path) -> None:
    class Odd:
        async def reset(self, record: Any) -> str:
            return "é" * 1_000_000

        async def step(self, action: str) -> Observation:
            return Observation("half \ud83d", None, True)

    for _ in range(2):
        rows, _ = played(tmp_path / "run", going("x"), environment=lambda record: Odd(), longest=10)
        assert rows[0].messages[0].text == "é" * 10 + "\n(the first 10 of 1000000 characters)"
        assert rows[0].meta == {"reward": None, "last_observation": "half \ufffd"}
    with Run(tmp_path / "none", teacher=going(), quiet=True) as run:
        assert len(run.map(Play(Corridor), [])) == 0


def test_a_reward_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    class Odd(Corridor):
        async def step(self, action: str) -> Observation:
            return Observation("", math.nan, True)

    with pytest.raises(ConfigError, match="reward nan"):
        played(tmp_path / "run", going("x"), environment=Odd)


@pytest.mark.parametrize("more", [{"turns": 0}, {"longest": 0}])
def test_what_cannot_work_is_refused(more: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Play(Corridor, **more)
