"""Tools: arguments are checked before a call, results are journaled as text, and what has a state is caught up with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from synthkd import tools
from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.record import Demonstration, Instruction
from synthkd.run import Run
from synthkd.testing import FunctionTeacher, SchemaTeacher
from synthkd.tools import Course, Outcome, Played, Tool, Used
from synthkd.tools.tool import canonical

Wanted = Sequence[tuple[Tool, Mapping[str, Any]]]


def using(folder: Path, wanted: Callable[[], Wanted], **roles: Any) -> list[Outcome]:
    """What tools give, one call after the other, for one record of a run in a folder."""
    found: list[Outcome] = []

    async def strategy(record: Instruction, ask: Ask) -> list[Demonstration]:
        course, earlier = Course(ask), []
        for tool, arguments in wanted():
            found.append(await tool.use(arguments, course, tuple(earlier)))
            earlier.append(Used(tool.name, canonical(arguments), found[-1]))
        return [Demonstration(prompt=record.prompt, completion="done")]

    with Run(folder, quiet=True, **(roles or {"teacher": SchemaTeacher()})) as run:
        stage = run.map(strategy, [Instruction(prompt="?")])
        assert len(stage) == 1, stage.ledger
    return found


def weather(city: str, days: Annotated[int, Field(ge=1, le=7)] = 1, unit: Literal["C", "F"] = "C") -> str:
    """Tell the weather of a city.

    It is made up.

    Args:
        city: the city's name,
            in any language.
        unit (str): Celsius or Fahrenheit.

    Returns:
        A sentence.
    """
    return f"{city}: sun for {days} days, 20 {unit}"


def test_a_function_s_hints_and_docstring_are_the_tool_s_schema() -> None:
    assert tools.function(weather).schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather of a city. It is made up.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "required": ["city"],
                "properties": {
                    "city": {"type": "string", "description": "the city's name, in any language."},
                    "days": {"type": "integer", "minimum": 1, "maximum": 7, "default": 1},
                    "unit": {
                        "type": "string",
                        "enum": ["C", "F"],
                        "default": "C",
                        "description": "Celsius or Fahrenheit.",
                    },
                },
            },
        },
    }


def test_a_function_without_parameters_has_an_object_of_none() -> None:
    def now() -> str:
        """Tell the time."""
        return "noon"

    parameters = tools.function(now).schema["function"]["parameters"]  # type: ignore[index,call-overload]
    assert parameters == {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Error: city: is missing"),
        ({"city": "Ulm", "days": 9}, "Error: days: Input should be less than or equal to 7 (got '9')"),
        ({"city": "Ulm", "when": 1}, "Error: when: there is no such argument"),
        ({"city": ["Ulm"]}, "Error: city: Input should be a valid string (got \"['Ulm']\")"),
    ],
)
def test_wrong_arguments_are_an_outcome_that_says_what_is_wrong(
    tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    tool = tools.function(weather)
    assert using(tmp_path / "run", lambda: [(tool, arguments)]) == [Outcome(said, failed=True)]


class Point(BaseModel):
    x: int


@dataclass
class Found:
    kind: str
    copies: int


def test_a_function_gets_what_its_hints_say_and_its_own_defaults(tmp_path: Path) -> None:
    async def copy(schema: Point, copy: list[int] = []) -> Found:  # noqa: B006 - it is never changed
        """Say what came."""
        return Found(type(schema).__name__, len(copy) + schema.x)

    [outcome] = using(tmp_path / "run", lambda: [(tools.function(copy), {"schema": {"x": "3"}})])
    assert outcome == Outcome('{"kind": "Point", "copies": 3}')


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), ZeroDivisionError("no")])
def test_what_a_tool_says_of_its_arguments_is_told_and_a_replay_tells_it_again(
    tmp_path: Path, error: Exception
) -> None:
    times = []

    def fails(x: int) -> int:
        """Fail."""
        times.append(x)
        raise error

    for _ in range(2):
        [outcome] = using(tmp_path / "run", lambda: [(tools.function(fails), {"x": 1})])
        assert outcome.failed
        assert outcome.text.startswith(f"Error: {type(error).__name__}: ")
    assert times == [1]


def test_any_other_exception_is_a_bug_that_stops_the_run(tmp_path: Path) -> None:
    def broken(x: int) -> int:
        """Break."""
        raise NameError("name 'y' is not defined")

    with pytest.raises(NameError, match="y"):
        using(tmp_path / "run", lambda: [(tools.function(broken), {"x": 1})])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (2**100, str(2**100)),
        (math.nan, "NaN"),
        ({"é": [1, None]}, '{"é": [1, null]}'),
        ("half \ud83d", "half \ufffd"),
        ("", ""),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
)
def test_a_result_is_text_and_the_same_on_a_replay(tmp_path: Path, given: Any, text: str) -> None:
    gives = iter([given])

    def give(n: int) -> Any:
        """Give it once."""
        return next(gives)

    for _ in range(2):
        assert using(tmp_path / "run", lambda: [(tools.function(give), {"n": 2**70})]) == [Outcome(text)]


def test_a_result_that_is_no_json_names_the_tool(tmp_path: Path) -> None:
    def give() -> Any:
        """Give an object."""
        return object()

    with pytest.raises(ConfigError, match="'give' gave a object"):
        using(tmp_path / "run", lambda: [(tools.function(give), {})])


def no_hint(x) -> int:  # type: ignore[no-untyped-def]
    """Miss a hint."""
    return 1


def many(*x: int) -> int:
    """Take many."""
    return 1


def silent(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("fn", "said"), [(no_hint, "no type hint"), (many, "cannot be given by name"), (silent, "has no docstring")]
)
def test_a_function_that_says_too_little_is_refused(fn: Callable[..., Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tools.function(fn)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("a b", {"type": "object"}, "1 to 64 letters"),
        ("", {"type": "object"}, "1 to 64 letters"),
        ("a", {"type": "string"}, "no JSON schema of an object"),
        ("a", {"type": "object", "properties": {"x": {"type": "text"}}}, "are no JSON schema"),
    ],
)
def test_a_tool_that_no_endpoint_takes_is_refused(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tool(name, "", parameters)


def test_a_schema_that_refers_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    async def call(arguments: dict[str, Any]) -> str:
        return "called"

    parameters = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/x.json"}}}
    [outcome] = using(tmp_path / "run", lambda: [(Tool("a", "", parameters, call), {"x": 1})])
    assert outcome == Outcome("Error: the schema refers to 'http://127.0.0.1:9/x.json', which is not in it", True)


@settings(deadline=None, derandomize=True)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_arguments_have_one_text_that_reads_back(value: Any) -> None:
    arguments = {"b": value, "a": 1}
    assert canonical(arguments) == canonical({"a": 1, "b": value})
    assert json.loads(canonical(arguments)) == arguments


class Counter:
    """A state: how often it was counted up."""

    def __init__(self) -> None:
        self.count = 0

    def tool(self) -> Tool:
        def up(by: int) -> int:
            """Count up."""
            self.count += by
            return self.count

        return tools.function(up, stateful=True)


def test_a_stateful_tool_is_brought_to_where_the_journal_ends_before_it_goes_on(tmp_path: Path) -> None:
    def counting(*steps: int) -> tuple[list[str], int]:
        counter = Counter()
        up = counter.tool()
        found = using(tmp_path / "run", lambda: [(up, {"by": by}) for by in steps])
        return [outcome.text for outcome in found], counter.count

    assert counting(1, 2) == (["1", "3"], 3)
    assert counting(1, 2) == (["1", "3"], 0)  # all from the journal
    assert counting(1, 2, 3) == (["1", "3", "6"], 6)  # the first two were made again
    assert counting(2, 2) == (["2", "4"], 4)  # `by=2` after another act is another act


def test_a_state_that_comes_out_otherwise_rejects_the_record(tmp_path: Path) -> None:
    values = iter(range(100))

    def calls(count: int) -> Any:
        def roll() -> int:
            """Roll."""
            return next(values)

        tool = tools.function(roll, stateful=True)

        async def strategy(record: Instruction, ask: Ask) -> list[Demonstration]:
            course = Course(ask)
            said = [(await tool.use({}, course)).text for _ in range(count)]
            return [Demonstration(prompt=record.prompt, completion=" ".join(said))]

        with Run(tmp_path / "run", teacher=SchemaTeacher(), quiet=True) as run:
            stage = run.map(strategy, [Instruction(prompt="?")])
            return [row.completion for row in stage], stage.ledger.rejected

    assert calls(1) == (["0"], {})
    assert calls(2) == ([], {"diverged": 1})


def test_a_played_tool_is_asked_with_its_documentation_and_what_was_before(tmp_path: Path) -> None:
    teacher = SchemaTeacher({Played: lambda _: Played(explanation="as it says", failed=False, result='{"id": 7}')})
    tool = tools.simulated({"type": "function", "function": {"name": "make", "description": "Make a <thing>."}})
    other = tools.simulated(tools.function(weather))

    def wanted() -> Wanted:
        return [(tool, {}), (other, {"city": "Ulm"}), (other, {"days": 1})]

    for _ in range(2):
        outcomes = using(tmp_path / "run", wanted, teacher=teacher)
        assert outcomes[:2] == [Outcome('{"id": 7}'), Outcome('{"id": 7}')]
        assert outcomes[2] == Outcome("Error: 'city' is a required property", failed=True)  # and nobody was asked
    assert len(teacher.calls) == 2
    assert "Make a <thing>." in teacher.calls[0].messages[1].text
    assert "Earlier calls" not in teacher.calls[0].messages[1].text
    assert 'make({}) gave: {"id": 7}' in teacher.calls[1].messages[1].text
    assert teacher.calls[0].sampling.temperature == 0.0


def test_a_played_tool_may_refuse(tmp_path: Path) -> None:
    teacher = FunctionTeacher(lambda _: Played(explanation="", failed=True, result="no such city").model_dump_json())
    [outcome] = using(
        tmp_path / "run", lambda: [(tools.simulated(tools.function(weather)), {"city": "?"})], teacher=teacher
    )
    assert outcome == Outcome("Error: no such city", failed=True)


@pytest.mark.parametrize("spec", [{}, {"function": {"name": 3}}, {"name": "a", "parameters": [1]}])
def test_what_describes_no_tool_is_refused(spec: Any) -> None:
    with pytest.raises(ConfigError, match=r"describes no tool|no JSON schema"):
        tools.simulated(spec)
