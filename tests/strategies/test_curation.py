"""Curation: what teachers make of topics, documents, code and tools, and what of it the source does not bear out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkd.errors import ConfigError, PromptError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document, Instruction, Record
from synthkd.request import Request
from synthkd.run import Run
from synthkd.seeds import Seed, pool, snippets
from synthkd.strategies import AskAbout, Brainstorm, Exercises, FromCode, FromSeed, FromTools, Textbook
from synthkd.strategies.curation.asking import _plain, _stands_in
from synthkd.strategies.curation.textbooks import ExerciseList
from synthkd.testing import FunctionTeacher, SchemaTeacher

Start = Callable[..., Run]
PAGE = Document(
    text="The “oak” grows slowly.\nIt may live\n  for a thousand years — or more.", title="Oak", source="book"
)
WEATHER = {
    "name": "get_weather",
    "description": "The weather — or ☔ — of a place.",
    "parameters": {"type": "object", "properties": {"place": {}, "day": {}}, "required": ["place"]},
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(answer: Any = None, folder: str | None = None) -> Run:
        teacher = FunctionTeacher(answer) if answer else SchemaTeacher()
        opened.append(Run(tmp_path / (folder or f"run{len(opened)}"), teacher=teacher, quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run) -> list[Request[Any]]:
    teacher = run.roles["teacher"]
    assert isinstance(teacher, FunctionTeacher)
    return teacher.calls


def items(*rows: Any) -> Callable[[Request[Any]], str]:
    return lambda _: json.dumps({"items": rows})


def asked(*quotes: str) -> Callable[[Request[Any]], str]:
    return items(*({"question": f"Q{n}?", "answer": f"A{n}", "quote": quote} for n, quote in enumerate(quotes)))


def requested(*rows: tuple[str, str, Any]) -> Callable[[Request[Any]], str]:
    return items(
        *({"instruction": a, "tool": b, "arguments": c if isinstance(c, str) else json.dumps(c)} for a, b, c in rows)
    )


HUGE = Document(text="ünï 木 " * 170_000)
EVERY: dict[str, tuple[Any, Record, Any]] = {
    "AskAbout": (AskAbout(), HUGE, asked("木 ÜNÏ 木")),
    "Brainstorm": (Brainstorm("subtopic", 3), next(pool(topic=["Bäume"])), None),
    "Exercises": (Exercises(), HUGE, None),
    "FromCode": (FromCode(kinds=["a", "b", "c"]), HUGE, None),
    "FromSeed": (FromSeed(), next(pool(topic=["Bäume"], persona=["木"])), None),
    "FromTools": (
        FromTools(),
        next(pool(tool=[WEATHER])),
        requested(("Rain in 東京?", "get_weather", {"place": "東京"})),
    ),
    "Textbook": (Textbook(), next(pool(topic=["Bäume"])), None),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_replays_to_the_same_rows_without_a_call(start: Start, name: str) -> None:
    strategy, record, answer = EVERY[name]
    first = start(answer, folder="one")
    rows = [row.model_dump() for row in first.map(strategy, [record])]
    assert rows
    assert all(row["parents"] == (record.id,) for row in rows)
    first.close()
    again = start(answer, folder="one")
    assert [row.model_dump() for row in again.map(strategy, [record])] == rows
    assert calls(again) == []


@pytest.mark.parametrize("name", [name for name in EVERY if name != "Textbook"])
def test_every_strategy_takes_no_records_and_loses_none_to_unreadable_replies(start: Start, name: str) -> None:
    strategy, record, _ = EVERY[name]
    run = start(lambda _: "Here you are.")
    assert len(run.map(strategy, [])) == 0
    assert run.map(strategy, [record]).ledger.rejected == {"unreadable reply": 1}


@pytest.mark.parametrize("strategy", [AskAbout, Exercises, FromSeed, FromTools, lambda n: Brainstorm("a", n)])
def test_asking_for_nothing_is_refused(strategy: Any) -> None:
    with pytest.raises(ConfigError, match=r"=0\): at least 1 is needed"):
        strategy(n=0)


@pytest.mark.parametrize("strategy", [AskAbout(), FromCode()])
def test_a_document_without_text_costs_nothing(start: Start, strategy: Any) -> None:
    run = start()
    assert run.map(strategy, [Document(text="\n ")]).ledger.rejected == {"no text": 1}
    assert calls(run) == []


# Topics.


def test_topics_fan_out_and_every_level_travels_along(start: Start) -> None:
    run = start(lambda request: json.dumps({"items": [f"{len(request.messages[-1].text)}a", "b", "B "]}))
    topics = run.map(Brainstorm("subtopic", 2), pool(topic=["trees", "bees"], topic_source=["x"]))
    assert [type(row) for row in topics] == [Seed] * 4
    assert {row.meta["topic"] for row in topics} == {"trees", "bees"}
    finer = run.map(Brainstorm("question", 2), topics)
    assert finer[0].meta.keys() == {"topic", "topic_source", "subtopic", "question"}
    assert topics.ledger.dropped == {"repeated entry": 2}
    assert "- topic: trees" in "".join(call.messages[-1].text for call in calls(run))
    assert "topic_source" not in calls(run)[-1].messages[-1].text


def test_a_brainstorm_may_begin_with_nothing_but_not_hide_a_field(start: Start) -> None:
    run = start(items("trees", "bees"))
    assert [row.meta for row in run.map(Brainstorm("topic", 2), [Seed()])] == [{"topic": "trees"}, {"topic": "bees"}]
    with pytest.raises(ConfigError, match="has a field of this name"):
        run.map(Brainstorm("text"), [PAGE])


def test_instructions_come_of_all_that_was_drawn(start: Start) -> None:
    run = start(items("How old are oaks?", "How old are oaks? ", "Draw up a plan."))
    seeds = list(pool(entity=["oak"], persona=["a forester"]))
    stage = run.map(FromSeed(5), seeds)
    assert [row.prompt for row in stage] == ["How old are oaks?", "Draw up a plan."]
    assert stage[0] == Instruction(
        parents=(seeds[0].id,), prompt="How old are oaks?", meta={"entity": "oak", "persona": "a forester"}
    )
    said = calls(run)[0].messages[-1].text
    assert "- entity: oak\n- persona: a forester" in said


def test_nothing_cannot_be_written_about(start: Start) -> None:
    with pytest.raises(ConfigError, match="holds nothing"):
        start().map(FromSeed(), [Seed()])


# Documents.


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("It may live for a thousand years", True),
        ("\"The 'oak' GROWS slowly.\"", False),
        ('The "oak" grows slowly.', True),
        ("thousand years - or more", True),
        ("The oak grows quickly.", False),
        ("grows slowly ... or more", True),
        ("or more … grows slowly", False),
        ("", False),
        (" ... ", False),
    ],
)
def test_a_quote_must_stand_in_the_document(start: Start, quote: str, found: bool) -> None:
    stage = start(asked(quote)).map(AskAbout(), [PAGE])
    assert stage.ledger.rejected == ({} if found else {"not in the source": 1})


@given(st.lists(st.text("abÄ木-", min_size=1), min_size=1), st.data())
def test_any_words_of_a_text_stand_in_it_however_they_are_set(words: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    quote = "\n ".join(words[first:last]).replace("-", "–").upper()
    assert _stands_in(_plain(" ".join(words)), quote)
    assert not _stands_in(_plain(" ".join(words)), f"{quote} else")


def test_questions_are_asked_with_the_passage_or_without_it(start: Start) -> None:
    run = start(asked("grows slowly", "not there", "a thousand years", "or more"))
    stage = run.map(AskAbout(2), [PAGE])
    assert [(row.prompt, row.completion) for row in stage] == [
        (f"{PAGE.text}\n\nQ0?", "A0"),
        (f"{PAGE.text}\n\nQ2?", "A2"),
    ]
    assert stage.ledger.dropped == {"not in the source": 1, "more than asked for": 1}
    alone = run.map(AskAbout(2, passage=False), [PAGE])[0]
    assert (alone.prompt, alone.privileged_context, alone.meta) == ("Q0?", PAGE.text, {"quote": "grows slowly"})
    assert "[Title]\nOak" in calls(run)[0].messages[-1].text


def test_code_inspires_a_problem_with_its_solution(start: Start) -> None:
    source = Document(text="import os\n\n\ndef f(x):\n    return x\n", meta={"license": "mit"})
    run = start(lambda _: json.dumps({"problem": " Write f. ", "solution": "```python\n...\n```"}))
    pieces = list(snippets(source, 3, seed=1))
    stage = run.map(FromCode(kinds=["repair", "translation"], bad=["Do it."]), pieces)
    assert stage[0].parents == (pieces[0].id,)
    assert pieces[0].parents == (source.id,)
    assert isinstance(stage[0], Demonstration)
    assert (stage[0].prompt, stage[0].meta["license"]) == ("Write f.", "mit")
    for piece, call, row in zip(pieces, calls(run), stage, strict=True):
        said = call.messages[-1].text
        assert f"[Snippet]\n{piece.text.rstrip()}" in said
        assert f"of this kind: {row.meta['kind']}." in said
        assert "[A bad problem]\nDo it." in said


def test_blank_halves_are_no_problem(start: Start) -> None:
    stage = start(lambda _: '{"problem": "Write f.", "solution": " "}').map(FromCode(), [PAGE])
    assert stage.ledger.rejected == {"no solution": 1}


# Textbooks.


def test_a_section_is_a_document_about_its_topic_and_exercises_come_of_it(start: Start) -> None:
    exercises = items(
        {"exercise": "Add 1 and 1.", "solution": "2"},
        {"exercise": "add 1 and 1. ", "solution": "2"},
        {"exercise": "Add 2.", "solution": " "},
    )
    run = start(lambda request: "One and one.\n" if request.reply is str else exercises(request))
    [section] = run.map(Textbook(), pool(topic=["addition"], audience=["children"]))
    assert (section.text, section.title) == ("One and one.", "addition")
    assert section.meta == {"topic": "addition", "audience": "children"}
    said = calls(run)[0].messages[-1].text
    assert "on: addition\nIt is for: children\n\nExplain" in said
    stage = run.map(Exercises(), [section])
    assert [(row.prompt, row.completion) for row in stage] == [("Add 1 and 1.", "2")]
    assert stage[0].meta == section.meta
    assert stage.ledger.dropped == {"repeated entry": 1, "blank entry": 1}


def test_code_exercises_are_the_same_strategy_with_another_template(start: Start) -> None:
    run = start()
    strategy = Exercises(2, prompt=Prompt("curation/code_exercises", ExerciseList))
    assert len(run.map(strategy, pool(topic=["sorting"], name=["shelf"]))) == 2
    assert 'to do with "shelf"' in calls(run)[0].messages[-1].text
    with pytest.raises(PromptError, match="wants 'topic'"):
        run.map(Textbook(), pool(subject=["sorting"]))


# Tools.


def test_requests_carry_their_tools_and_the_call_that_meets_them(start: Start) -> None:
    run = start(requested(("Will it rain in Rome?", "get_weather", {"place": "Rome"})))
    seeds = list(pool(tool=[WEATHER], hub=["x"]))
    [row] = run.map(FromTools(), seeds)
    assert row.prompt == "Will it rain in Rome?"
    assert row.meta == {
        "hub": "x",
        "tools": [{"type": "function", "function": WEATHER}],
        "call": {"name": "get_weather", "arguments": {"place": "Rome"}},
    }
    assert "☔" in calls(run)[0].messages[-1].text


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("Use Get_Weather for Rome.", "get_weather", {"place": "Rome"}), "names its tool"),
        (("Rain?", "weather", {"place": "Rome"}), "unknown tool"),
        (("Rain?", "get_weather", "{place: Rome"), "unreadable arguments"),
        (("Rain?", "get_weather", {"day": "today"}), "wrong arguments"),
        (("Rain?", "get_weather", {"place": "Rome", "unit": "C"}), "wrong arguments"),
        (("Rain?", "get_weather", ["Rome"]), "wrong arguments"),
        ((" ", "get_weather", {"place": "Rome"}), "blank entry"),
    ],
)
def test_a_request_that_its_call_does_not_meet_is_dropped(start: Start, row: Any, reason: str) -> None:
    stage = start(requested(row)).map(FromTools(), pool(tools=[[WEATHER]]))
    assert (stage.ledger.rejected, stage.ledger.dropped) == ({"no tool request": 1}, {reason: 1})


def test_a_tool_that_is_called_by_a_plain_word_may_be_spoken_of(start: Start) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    run = start(requested(("What is the weather?", "weather", {})))
    assert run.map(FromTools(), pool(tool=[tool]))[0].meta["tools"] == [tool]


@pytest.mark.parametrize("tools", [{"hub": ["x"]}, {"tool": ["weather"]}, {"tools": [[{"api": "x"}]]}])
def test_records_without_tools_are_refused(start: Start, tools: Any) -> None:
    with pytest.raises(ConfigError, match=r"FromTools\(\): .*expected a function such as"):
        start().map(FromTools(), pool(**tools))
