"""What holds for every strategy: the ledger, the replay, the same again elsewhere, and any text."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moody import MOODS, Moody
from strategy_inputs import ordinary
from strategy_runs import settled
from strategy_table import TABLE, Case

from synthkd import assemble, strategies
from synthkd.message import Image, Message
from synthkd.record import Prompted, Record
from synthkd.request import Request
from synthkd.run import Run
from synthkd.stage import Ledger, Stage

NO_STRATEGIES = {
    "AdditiveScore", "Critique", "Environment", "Examples", "Observation", "Programmed", "Rating", "Reasoned",
    "Speaker", "Utterance",  # replies, records, and what strategies are made of
    "Leaked", "NoGain", "Unanswered",  # rules of `Evolve`
    "Strategy",  # the protocol
    "Mixture", "Span", "composed", "curriculum", "distribution", "mix", "pairs", "shares", "soften", "tag", "thinking",
}  # fmt: skip
"""What the two packages export beside strategies."""

LONG = 1_000_000
ODD = (
    "", " \n", "one", "👩‍👩‍👧 🏳️‍🌈 emoji", "שלום عولם، \u202eمرحبا", "\u0301\u0327 lone accents e\u0301",
    "\x07\x1b[0m\x0b\u200b\ufeff\u2028 control", "\x02image:0123456789abcdef\x03", "ﬁ Ⅷ ㍿ İı ß",
    "한국어 ภาษาไทย 中文 日本語", "\ufffd\U0010ffff", "half \ud83d", "{{ instruction }} {% raw %} {# #}",
    "<think>so</think>", "</think> so", "1. one\n2. two", '```json\n{"a": 1}', "[END]", "%s {0} \\1 \\boxed{7}",
)  # fmt: skip
PROMPTS: tuple[tuple[Message, ...], ...] = (
    (),
    (Message("system", "Be brief."),),
    (Message("user", "Hello"), Message("assistant", "Good day.")),
    (Message("assistant", "Good day."), Message("user", "Hello")),
    (Message("user", ("What is it?", Image("https://example.org/pier.png"))),),
    (Message("user", (Image("https://example.org/quay.png"),)),),
    (Message("user", ("What is it?", Image("/nowhere/pier.png"))),),
    (Message("user", "Hello"), Message("user", "Why?"), Message("system", "Be late.")),
    (Message("user", "Why?"), Message("tool", "7", tool_call_id="1", name="count")),
)
"""Conversations of any form; some do not end with a user turn, or have none."""


def knots(length: int) -> str:
    """A text in which every kind of pattern finds much to look at."""
    parts = (
        " ".join(f"word{number % 7919}" for number in range(length // 70)),
        "a" * (length // 10),
        " " * (length // 10),
        "\n" * (length // 10),
        "1," * (length // 20) + "1111",
        "\n1. a" * (length // 50),
        "the answer is " * (length // 140),
        "\\boxed{" * (length // 70),
        "<think>" * (length // 70),
        "``` \n" * (length // 50),
        "量子力学的基本概念" * (length // 90),
        "{\"a': [" * (length // 70),
    )
    text = "".join(parts)
    return text + "x" * (length - len(text))


class Longwinded(Moody):
    """Has a very long text in each reply."""

    def _by_schema(self, request: Request[Any]) -> Any:
        found = super()._by_schema(request)
        if not isinstance(found, str):
            return found
        return knots(LONG) if request.reply is str else orjson.dumps(swollen(orjson.loads(found))).decode()


def swollen(value: Any) -> Any:
    """A JSON value with its first text of some length made long."""
    if isinstance(value, list) and value:
        return [swollen(value[0]), *value[1:]]
    if isinstance(value, dict):
        name = next((name for name in value if isinstance(value[name], list | dict) or " " in str(value[name])), None)
        return value if name is None else {**value, name: swollen(value[name])}
    return knots(LONG) if isinstance(value, str) else value


def players(case: Case, kind: type[Moody] = Moody, name: str = "", **mood: Any) -> dict[str, Moody]:
    return {role: kind(case.answers, f"{name}{role}", **mood) for role in ("teacher", "judge", "student")}


def records(case: Case, texts: Iterable[str]) -> list[Record]:
    return [case.record(text, number) for number, text in enumerate(texts)]


def of_any_form(case: Case) -> list[Record]:
    one = case.record("one", 0)
    return [one.model_copy(update={"prompt": prompt}) for prompt in PROMPTS] if isinstance(one, Prompted) else []


def rows(stage: Stage[Any]) -> list[Any]:
    rejects = [(reject.id, reject.reason, reject.detail) for reject in stage.rejects]
    assert all(reason and detail for _, reason, detail in rejects)
    assert all(stage.ledger.dropped.values()), "a reason that dropped nothing"
    settled(stage)
    return [list(stage), stage.ledger, rejects]


def exported() -> dict[str, Any]:
    return {name: getattr(module, name) for module in (strategies, assemble) for name in module.__all__}


def takes_a_record_and_an_ask(exported: Any) -> bool:
    call = inspect.getattr_static(exported, "__call__", None) if inspect.isclass(exported) else exported
    return inspect.iscoroutinefunction(call) and list(inspect.signature(call).parameters)[-2:] == ["record", "ask"]


def test_every_exported_strategy_stands_in_the_table() -> None:
    known = {name.partition(",")[0] for name in TABLE}
    found = exported()
    assert known | NO_STRATEGIES | {"Retrieve"} == found.keys(), "put new strategies into strategy_table.py"
    assert not known & NO_STRATEGIES
    wrong = [name for name in NO_STRATEGIES - {"Strategy"} if takes_a_record_and_an_ask(found[name])]
    assert not wrong, "these are strategies"
    assert all(takes_a_record_and_an_ask(type(case.make())) for case in TABLE.values())


def test_the_teacher_of_these_tests_has_all_its_moods(tmp_path: Path) -> None:
    case = TABLE["Rationale"]
    teachers = players(case, share=0.9, failures=True)
    with Run(tmp_path / "run", **teachers, quiet=True) as run:
        stage = run.map(case.make(), records(case, map(ordinary, range(300))))
        rejected = stage.ledger.rejected.keys()
    assert rejected == {"refused", "empty reply", "truncated", "unreadable reply", "teacher error"}
    assert teachers["teacher"].shown == set(MOODS)


@pytest.mark.parametrize("name", TABLE)
def test_the_ledger_adds_up_whatever_a_teacher_does(name: str, tmp_path: Path) -> None:
    case = TABLE[name]
    with Run(tmp_path / "run", **players(case, share=0.6, failures=True), quiet=True) as run:
        stage = run.map(case.make(), records(case, map(ordinary, range(8))))
        rows(stage)
        assert stage.ledger.records_in == 8


@pytest.mark.parametrize("name", TABLE)
def test_a_replay_asks_nobody_and_another_folder_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    case = TABLE[name]
    given = records(case, map(ordinary, range(8)))
    found = []
    for seed, (folder, width) in enumerate([("a", None), ("a", 3), ("b", 1)]):
        random.seed(seed)
        teachers = players(case, share=0.8, pause=0.0 if seed else 0.005)
        with Run(tmp_path / folder, **teachers, quiet=True, records_in_flight=width) as run:
            found.append(rows(run.map(case.make(), given)))
        asked = sum(len(teacher.calls) + teacher.scored for teacher in teachers.values())
        assert not (asked and seed == 1), "the replay asked somebody"
    assert found[0] == found[1]
    assert found[0] == found[2]


@pytest.mark.parametrize("name", TABLE)
def test_no_record_one_record_any_script_and_any_conversation(name: str, tmp_path: Path) -> None:
    case = TABLE[name]
    with Run(tmp_path / "run", **players(case), quiet=True) as run:
        none = run.map(case.make(), [])
        assert (list(none), none.ledger) == ([], Ledger(0, 0, {}, {}))
        several = run.map(case.make(), records(case, map(ordinary, range(8))))
        assert len(rows(several)[0]), "with good replies it gives something"
        for texts in ([ordinary(0)], ODD):
            rows(run.map(case.make(), records(case, texts)))
        for record in of_any_form(case):
            rows(run.map(case.make(), [record]))


@pytest.mark.parametrize("name", TABLE)
def test_a_million_characters_take_no_more_than_moments(name: str, tmp_path: Path) -> None:
    case = TABLE[name]
    for kind, text in ((Moody, knots(LONG)), (Longwinded, ordinary(1))):
        began = time.process_time()
        with Run(tmp_path / kind.__name__, **players(case, kind), quiet=True) as run:
            stage = run.map(case.make(), [case.record(text, 1)])
            rows(stage)
        took = time.process_time() - began
        assert took < 5, f"{kind.__name__}: {took:.1f} s"


texts = st.lists(st.text(max_size=40), min_size=1, max_size=3, unique=True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=texts)
def test_any_text_passes_or_is_rejected_with_a_reason(tmp_path_factory: Any, given: list[str]) -> None:
    folder: Path = tmp_path_factory.mktemp("runs")
    with Run(folder / "run", quiet=True) as run:
        for name, case in TABLE.items():
            stage = run.map(case.make(), records(case, given), name=name, **players(case, name=name))
            found, ledger, rejects = rows(stage)
            assert ledger.records_in == len(records(case, given))
            assert ledger.records_out == len(found)
            assert sum(ledger.rejected.values()) == len(rejects)
