"""Calls inside a text: they are carried out once, stand at their place, and stay only where they help."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synthkd import tools
from synthkd.errors import ConfigError
from synthkd.message import Message
from synthkd.record import Document
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Annotate
from synthkd.testing import FunctionTeacher

TEXT = "Of 1400 people, 400 (or 29%) passed. They were glad."
LOG: list[float] = []


def divide(a: float, b: float) -> float:
    """Divide two numbers."""
    LOG.append(a)
    return round(a / b, 2)


def marks(*found: tuple[str, str, dict[str, Any]]) -> str:
    return json.dumps({"marks": [{"after": after, "tool": tool, "arguments": given} for after, tool, given in found]})


GOOD = ("400 (or", "divide", {"a": 400, "b": 1400})
USELESS = ("They were", "divide", {"a": 1, "b": 2})


class Scorer(FunctionTeacher):
    """Finds `29` likely only after `0.29`."""

    scored = 0

    async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
        self.scored += 1
        likely = "29" not in completion or "0.29" in messages[0].text
        return [-0.1 if likely else -3.0] * 7


def mapped(folder: Path, strategy: Any, said: str, student: Any = None, text: str = TEXT) -> Any:
    with Run(folder, teacher=FunctionTeacher(lambda _: said), student=student, quiet=True) as run:
        stage = run.map(strategy, [Document(text=text)])
        return [row.text for row in stage], stage.ledger


def test_calls_stand_at_their_places_with_their_results_and_replay(tmp_path: Path) -> None:
    LOG.clear()
    for _ in range(2):
        [text], _ = mapped(tmp_path / "run", Annotate([tools.function(divide)]), marks(USELESS, GOOD))
        assert text == (
            'Of 1400 people, 400 (or [divide({"a": 400, "b": 1400}) → 0.29] 29%) passed. '
            'They were [divide({"a": 1, "b": 2}) → 0.5] glad.'
        )
    assert sorted(LOG) == [1, 400]


def test_a_call_that_does_not_help_is_dropped_and_counted(tmp_path: Path) -> None:
    scorer = Scorer(lambda _: "", "scorer")
    for _ in range(2):
        strategy = Annotate([tools.function(divide)], least=1.0)
        [text], ledger = mapped(tmp_path / "run", strategy, marks(GOOD, USELESS), scorer)
        assert text == 'Of 1400 people, 400 (or [divide({"a": 400, "b": 1400}) → 0.29] 29%) passed. They were glad.'
        assert ledger.dropped == {"call without use": 1}
    assert scorer.scored == 6


def test_what_cannot_be_carried_out_is_dropped_and_a_text_without_a_call_is_a_reject(tmp_path: Path) -> None:
    wrong = marks(
        ("nowhere", "divide", {"a": 1, "b": 2}),
        ("a", "divide", {"a": 1, "b": 2}),
        ("400 (or", "multiply", {}),
        ("400 (or", "divide", {"a": 1, "b": 0}),
        ("400 (or", "divide", {"a": 1}),
    )
    rows, ledger = mapped(tmp_path / "run", Annotate([tools.function(divide)]), wrong, text=TEXT + " aa")
    assert (rows, ledger.rejected) == ([], {"no call": 1})
    assert ledger.dropped == {"call without a place": 2, "call of an unknown tool": 1, "call refused": 2}
    assert mapped(tmp_path / "none", Annotate([tools.function(divide)]), marks())[1].rejected == {"no call": 1}


def test_draws_are_put_together_and_nothing_unicode_and_long_texts_go_through(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> str:
        return marks(("日本 ", "divide", {"a": 1, "b": 2}))

    teacher = FunctionTeacher(answer)
    with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
        strategy = Annotate([tools.function(divide)], draws=3)
        [row] = run.map(strategy, [Document(text="日本 " + "é" * 1_000_000)])
        assert row.text.startswith('日本  [divide({"a": 1, "b": 2}) → 0.5]éé')
        assert row.meta == {"calls": 1}
        assert len(run.map(strategy, [])) == 0


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Annotate([])
    with pytest.raises(ConfigError, match="without a state"):
        Annotate([tools.function(divide, stateful=True)])
