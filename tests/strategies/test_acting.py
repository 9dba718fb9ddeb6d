"""Acting: a tool is called once, mistakes are told to the teacher, and a search goes back where a way ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, Served

from synthkd import tools
from synthkd.errors import ConfigError, PromptError, TeacherError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Instruction
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.strategies import Act
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher, SchemaTeacher
from synthkd.tools import Tool

QUESTION = Instruction(prompt="What is 2 + 3?", meta={"gold": "5"})


def adding(log: list[str] | None = None, **more: Any) -> Tool:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        if log is not None:
            log.append(f"{a}+{b}")
        return a + b

    return tools.function(add, **more)


def calling(*calls: tuple[str, Any], text: str = "") -> Completion:
    """A completion with native calls."""
    made = tuple(
        {
            "id": f"id{number}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for number, (name, given) in enumerate(calls)
    )
    return Completion(text, finish_reason="tool_calls", tool_calls=made)


def scripted(*replies: str | Completion) -> FunctionTeacher:
    """A teacher whose reply depends on how many turns it has taken in what it is shown."""

    def answer(request: Request[Any]) -> str | Completion:
        return replies[sum(message.role == "assistant" for message in request.messages)]

    return FunctionTeacher(answer)


def mapped(folder: Path, strategy: Any, teacher: Any, *records: Instruction) -> tuple[list[Conversation], Any]:
    with Run(folder, teacher=teacher, quiet=True) as run:
        stage = run.map(strategy, list(records or (QUESTION,)))
        return list(stage), stage.ledger


def turn(thought: str, tool: str | None = None, arguments: Any = None, answer: str | None = None) -> str:
    return json.dumps({"thought": thought, "tool": tool, "arguments": arguments or {}, "answer": answer})


NATIVE = (calling(("add", {"a": 2, "b": 3}), text="I add."), "It is 5.")
REACT = (turn("I add.", "add", {"a": 2, "b": 3}), turn("Done.", answer="It is 5."))


@pytest.mark.parametrize(("style", "replies", "identifier"), [("native", NATIVE, "id0"), ("react", REACT, "call_2_0")])
def test_both_styles_give_the_same_conversation_and_replay_without_the_tool(
    tmp_path: Path, style: Any, replies: Any, identifier: str
) -> None:
    log: list[str] = []
    found = []
    for _ in range(2):
        teacher = scripted(*replies)
        rows, ledger = mapped(tmp_path / "run", Act([adding(log)], style=style), teacher)
        found.append((rows, len(teacher.calls)))
    assert found[0][0] == found[1][0]
    assert (found[0][1], found[1][1], log) == (2, 0, ["2+3"])
    [row] = found[0][0]
    call = {"id": identifier, "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
    assert row.messages == (
        Message("user", "What is 2 + 3?"),
        Message("assistant", "I add.", (call,)),
        Message("tool", "5", tool_call_id=identifier, name="add"),
        Message("assistant", "It is 5."),
    )
    assert row.parents == (QUESTION.id,)
    assert row.tools == (adding().schema,)
    assert row.meta["gold"] == "5"
    assert row.meta["failed_calls"] == 0
    assert ledger.rejected == {}


def test_react_tells_the_tools_in_the_prompt_and_keeps_the_last_thought(tmp_path: Path) -> None:
    teacher = scripted(*REACT)
    [row], _ = mapped(tmp_path / "run", Act([adding()], style="react"), teacher)
    system = teacher.calls[0].messages[0].text
    assert "add: Add two numbers." in system
    assert '"required": ["a", "b"]' in system
    assert teacher.calls[0].tools == ()
    assert teacher.calls[1].messages[-1] == Message("user", "Observation: 5")
    assert row.meta["reasonings"] == [None, "Done."]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("sub", {}), "there is no tool 'sub'; there are: add"),
        (("add", {"a": 2}), "b: is missing"),
        (("add", '{"a": 2, "b":'), "the arguments cannot be read"),
        (("add", "[1, 2]"), "a JSON object is expected"),
        (("add", '{"a": NaN, "b": 1}'), "NaN is no JSON"),
        (("add", '{"a": "\\ud83d", "b": 1}'), "Input should be a valid integer"),
    ],
)
def test_a_wrong_call_is_told_to_the_teacher_and_counted(tmp_path: Path, call: Any, said: str) -> None:
    log: list[str] = []
    teacher = scripted(calling(call), NATIVE[0], NATIVE[1])
    [row], _ = mapped(tmp_path / "run", Act([adding(log)]), teacher)
    assert said in row.messages[2].text
    assert row.messages[2].text.startswith("Error: ")
    assert (row.meta["failed_calls"], log) == (1, ["2+3"])
    assert isinstance(json.loads(row.messages[1].tool_calls[0]["function"]["arguments"]), dict)  # can be trained on
    assert teacher.calls[1].messages[-1] == row.messages[2]


def test_calls_of_one_turn_are_answered_each(tmp_path: Path) -> None:
    both = calling(("add", {"a": 1, "b": 1}), ("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}), ("no", ""))
    [row], _ = mapped(tmp_path / "run", Act([adding()]), scripted(both, "done"))
    said = [(message.tool_call_id, message.text[:2]) for message in row.messages if message.role == "tool"]
    assert said == [("id0", "2"), ("id1", "2"), ("id2", "4"), ("id3", "Er")]


def test_no_answer_within_the_turns_is_a_reject_and_the_last_calls_are_not_made(tmp_path: Path) -> None:
    log: list[str] = []
    teacher = FunctionTeacher(lambda request: calling(("add", {"a": len(request.messages), "b": 0})))
    rows, ledger = mapped(tmp_path / "run", Act([adding(log)], turns=3), teacher)
    assert (rows, ledger.rejected, len(teacher.calls), len(log)) == ([], {"no final answer": 1}, 3, 2)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        (Completion("", refusal="no"), "refused"),
        (Completion("It is", finish_reason="length"), "truncated"),
        (Completion("", tool_calls=({"id": "x", "type": "function", "function": {}},)), "unreadable reply"),
        (Completion("", tool_calls=({"id": "x"},)), "unreadable reply"),
    ],
)
def test_a_reply_that_cannot_be_used_rejects_the_record_and_the_ledger_adds_up(
    tmp_path: Path, reply: Any, reason: str
) -> None:
    def answer(request: Request[Any]) -> Any:
        return reply if "bad" in request.messages[1].text else "fine"

    records = [Instruction(prompt="bad"), Instruction(prompt="good")]
    rows, ledger = mapped(tmp_path / "run", Act([adding()]), FunctionTeacher(answer), *records)
    assert [row.messages[-1].text for row in rows] == ["fine"]
    assert ledger.rejected == {reason: 1}


def test_an_unreadable_react_turn_is_sent_back_with_what_is_wrong(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> str:
        if 'give either "tool" or "answer"' in request.messages[-1].text:
            return REACT[1]
        return turn("?", "add", {}, "both")

    teacher = FunctionTeacher(answer)
    [row], _ = mapped(tmp_path / "run", Act([adding()], style="react"), teacher)
    assert row.messages[-1].text == "It is 5."
    rows, ledger = mapped(tmp_path / "b", Act([adding()], style="react", policy=Policy(repairs=0)), teacher)
    assert (rows, ledger.rejected) == ([], {"unreadable reply": 1})


def test_a_bug_in_a_tool_stops_the_run_after_its_neighbours_have_ended(tmp_path: Path) -> None:
    log: list[str] = []

    def broken() -> str:
        """Break."""
        raise NameError("y")

    both = calling(("broken", {}), ("add", {"a": 1, "b": 1}))
    with pytest.raises(NameError):
        mapped(tmp_path / "run", Act([tools.function(broken), adding(log)]), scripted(both, "done"))
    assert log == ["1+1"]


def test_nothing_one_row_unicode_and_a_very_long_text_go_through(tmp_path: Path) -> None:
    def shout(text: str) -> str:
        """Repeat."""
        return text * 2

    def answer(request: Request[Any]) -> Any:
        if request.messages[-1].role == "tool":
            return f"heard {len(request.messages[-1].text)}"
        return calling(("shout", {"text": request.messages[-1].text}))

    with Run(tmp_path / "empty", teacher=FunctionTeacher(answer), quiet=True) as run:
        assert len(run.map(Act([tools.function(shout)]), [])) == 0
    long = "ü" * 1_000_000
    act = Act([tools.function(shout)], longest=50)
    rows, _ = mapped(
        tmp_path / "run", act, FunctionTeacher(answer), Instruction(prompt="日本"), Instruction(prompt=long)
    )
    assert rows[0].messages[2].text == "日本日本"
    assert rows[1].messages[2].text == "ü" * 50 + "\n(the first 50 of 2000000 characters)"
    assert json.loads(rows[1].messages[1].tool_calls[0]["function"]["arguments"]) == {"text": long}


def test_a_system_turn_of_the_record_stays_and_its_own_template_may_use_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: gold; source: this test #}{% block user %}Not {{ gold }}?{% endblock %}")
    prompt = (Message("system", "Be brief."), Message("user", "2 + 3?"))
    teacher = scripted("5")
    act = Act([adding()], prompt=Prompt(path, str))
    [row], _ = mapped(tmp_path / "run", act, teacher, Instruction(prompt=prompt, meta={"gold": "5"}))
    assert row.messages == (*prompt, Message("assistant", "5"))
    assert teacher.calls[0].messages == (Message("user", "Not 5?"),)
    with pytest.raises(PromptError, match="gold"):
        mapped(tmp_path / "b", act, teacher, Instruction(prompt="?"))
    assert len(teacher.calls) == 1


# --- search -----------------------------------------------------------------------------------------------------------


def searching(request: Request[Any]) -> Any:
    """Adds 1, then 10; at each point the first idea is wrong, and another comes when asked for."""
    last = request.messages[-1].text
    results = [message.text for message in request.messages if message.role == "tool"]
    again = "in other ways" in last
    if not results:
        return calling(("add", {"a": 0, "b": 10 if again else 1}))
    if len(results) == 1:
        return calling(("give_up", {})) if results[0] == "1" else calling(("add", {"a": 10, "b": 2 if again else 1}))
    return f"The answer is {results[-1]}."


def right(record: Instruction, answer: str) -> bool:
    return str(record.meta["gold"]) in answer


def test_a_search_goes_back_and_keeps_only_the_way_to_the_accepted_answer(tmp_path: Path) -> None:
    log: list[str] = []
    act = Act([adding(log)], branches=2, accept=right)
    record = Instruction(prompt="Reach 12.", meta={"gold": "12"})
    found = []
    for _ in range(2):
        teacher = FunctionTeacher(searching)
        rows, _ = mapped(tmp_path / "run", act, teacher, record)
        found.append((rows, len(teacher.calls)))
    assert found[0][0] == found[1][0]
    assert found[1][1] == 0
    [row] = found[0][0]
    assert log == ["0+1", "0+10", "10+1", "10+2"]
    assert [message.text for message in row.messages if message.role == "tool"] == ["10", "12"]
    assert row.messages[-1].text == "The answer is 12."
    assert [tool["function"]["name"] for tool in row.tools] == ["add"]  # type: ignore[index,call-overload]
    assert not any("other ways" in message.text for message in row.messages)


def test_a_search_ends_with_its_budget(tmp_path: Path) -> None:
    act = Act([adding()], branches=2, budget=4, accept=right)
    teacher = FunctionTeacher(searching)
    record = Instruction(prompt="Reach 12.", meta={"gold": "12"})
    rows, ledger = mapped(tmp_path / "run", act, teacher, record)
    assert (rows, ledger.rejected, len(teacher.calls)) == ([], {"no final answer": 1}, 4)


def test_an_answer_that_is_not_accepted_rejects_the_record(tmp_path: Path) -> None:
    rows, ledger = mapped(tmp_path / "run", Act([adding()], accept=lambda record, answer: False), scripted("4"))
    assert (rows, ledger.rejected) == ([], {"answer not accepted": 1})


def test_a_branch_that_cannot_be_read_is_counted_and_another_is_tried(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> Any:
        if request.messages[-1].role == "tool":
            return "" if request.messages[-1].text == "1" else "It is 10."
        return calling(("add", {"a": 0, "b": 10 if "other ways" in request.messages[-1].text else 1}))

    [row], ledger = mapped(tmp_path / "run", Act([adding()], branches=2), FunctionTeacher(answer))
    assert (row.messages[-1].text, ledger.dropped) == ("It is 10.", {"branch empty reply": 1})


# --- tools of the record ----------------------------------------------------------------------------------------------


def test_tools_of_the_record_may_have_a_state_and_a_stopped_run_goes_on_with_it(tmp_path: Path) -> None:
    made: list[dict[str, int]] = []

    def of(record: Instruction) -> list[Tool]:
        store: dict[str, int] = {}
        made.append(store)

        def put(name: str, value: int) -> str:
            """Keep a value."""
            store[name] = value
            return "kept"

        def get(name: str) -> int:
            """Tell a value."""
            return store[name]

        return [tools.function(put, stateful=True), tools.function(get, stateful=True)]

    replies = (
        calling(("put", {"name": "x", "value": 7}), ("get", {"name": "x"})),
        calling(("get", {"name": "x"})),
        "7",
    )

    def stops(request: Request[Any]) -> Any:
        turns = sum(message.role == "assistant" for message in request.messages)
        if turns:
            raise TeacherError("the line is dead")
        return replies[0]

    _, ledger = mapped(tmp_path / "run", Act(of), FunctionTeacher(stops))
    assert ledger.rejected == {"teacher error": 1}
    [row], _ = mapped(tmp_path / "run", Act(of), scripted(*replies))
    assert [message.text for message in row.messages if message.role == "tool"] == ["kept", "7", "7"]
    assert made == [{"x": 7}, {"x": 7}]  # made again before the first new call
    mapped(tmp_path / "run", Act(of), scripted(*replies))
    assert made[2] == {}  # a whole replay touches nothing


def test_tools_described_by_bad_data_reject_the_record_only(tmp_path: Path) -> None:
    def of(record: Instruction) -> list[Tool]:
        return [tools.simulated(json.loads(str(record.meta["spec"])))]

    good, bad = '{"name": "now", "description": "The time."}', '{"name": "a b"}'
    records = [Instruction(prompt=spec, meta={"spec": spec}) for spec in (bad, good)]
    rows, ledger = mapped(tmp_path / "run", Act(of), scripted("noon"), *records)
    assert (len(rows), ledger.rejected) == (1, {"unusable tools": 1})


def test_a_played_tool_and_its_teacher_are_one_conversation(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> Any:
        if request.prompt.startswith("acting/simulate"):
            return json.dumps({"explanation": "", "failed": False, "result": '{"id": 1}'})
        return "made 1" if request.messages[-1].role == "tool" else calling(("make", {}))

    spec = {"name": "make", "description": "Make a thing."}
    found = []
    for _ in range(2):
        teacher = FunctionTeacher(answer)
        rows, _ = mapped(tmp_path / "run", Act([tools.simulated(spec)]), teacher)
        found.append((rows, len(teacher.calls)))
    assert found[0][0] == found[1][0]
    assert [calls for _, calls in found] == [3, 0]
    assert found[0][0][0].messages[2].text == '{"id": 1}'


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Act([]), "at least one"),
        (lambda: Act([adding(), adding()]), "a name of its own"),
        (lambda: Act([adding()], style="chat"), "'native' or 'react'"),  # type: ignore[arg-type]
        (lambda: Act([adding()], turns=0), "at least 1"),
        (lambda: Act([adding()], branches=0), "at least 1"),
        (lambda: Act([adding()], style="react", prompt=Prompt("acting/native", str)), "must be ReactTurn"),
        (lambda: Act([adding(stateful=True)]), "afresh for each record"),
        (lambda: Act([tools.simulated({"name": "give_up"})], branches=2), "none called give_up"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_paid(make: Callable[[], Act], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_search_with_a_state_is_refused(tmp_path: Path) -> None:
    teacher = SchemaTeacher()
    with pytest.raises(ConfigError, match="cannot undo"):
        mapped(tmp_path / "run", Act(lambda _: [adding(stateful=True)], branches=2), teacher)
    assert teacher.calls == []


# --- over the wire ----------------------------------------------------------------------------------------------------


def test_an_openai_teacher_sends_tools_and_gets_calls_over_real_http(
    serve: Callable[..., Loopback], tmp_path: Path
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}

    def answer(asked: Call) -> Any:
        if asked.body["messages"][-1]["role"] == "tool":
            return "It is 5."
        return Served([""], message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"})

    server = serve(answer)
    log: list[str] = []
    found = []
    for _ in range(2):
        teacher = OpenAITeacher("m", base_url=server.url, api_key="test-key-0123")
        found.append(mapped(tmp_path / "run", Act([adding(log)]), teacher)[0])
    assert found[0] == found[1]
    assert len(server.calls) == 2
    assert log == ["2+3"]
    first, second = (asked.body for asked in server.calls)
    assert first["tools"] == [adding().schema]
    assert second["messages"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{**call, "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}],
        },
        {"role": "tool", "content": "5", "tool_call_id": "c1", "name": "add"},
    ]
