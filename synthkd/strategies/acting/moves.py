"""What a teacher does in one turn: the only place that reads tool calls out of its replies, in either style.

Invariant: what is kept of a turn can be sent and trained on: each call has an id, and its arguments are JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, Protocol, Self

from pydantic import BaseModel, Field, JsonValue, model_validator

from synthkd.ask import Ask
from synthkd.errors import ParseError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Prompted
from synthkd.request import Policy, Request, Sampling
from synthkd.text import storable
from synthkd.tools.tool import Outcome, Tool, canonical

GIVE_UP = "give_up"
"""The tool by which a teacher leaves a branch of a search."""


class ReactTurn(BaseModel):
    """The typed reply of one turn of ReAct: a thought, and a call or the final answer."""

    thought: str = Field(description="What you think before you act.")
    tool: str | None = Field(description="The name of the tool to call; null with the final answer.")
    arguments: dict[str, JsonValue] = Field(description="The tool's arguments; empty with the final answer.")
    answer: str | None = Field(description="The final answer to the user; null with a call.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.tool is None) == (not (self.answer or "").strip()):
            raise ValueError('give either "tool" or "answer", and null for the other')
        return self


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the teacher wants."""

    id: str
    name: str
    text: str
    """Its arguments as JSON text."""
    arguments: Mapping[str, Any] | None
    """None where they are no JSON object."""
    problem: str = ""

    @property
    def plain(self) -> dict[str, Any]:
        """As messages hold it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.text}}


@dataclass(frozen=True, slots=True)
class Move:
    """One turn."""

    said: Message
    """As the teacher is shown it again."""
    text: str
    """What it wrote beside its calls, or the final answer."""
    calls: tuple[Call, ...] = ()
    reasoning: str | None = None

    @property
    def summary(self) -> str:
        """Calls or answer in one line each."""
        return "; ".join(f"{call.name}({call.text})" for call in self.calls) or f"the answer: {self.text}"


class Voice(Protocol):
    """How a teacher is spoken to."""

    def opening(self, record: Prompted) -> tuple[Message, ...]:
        """What it is shown first."""
        ...

    async def move(self, shown: Sequence[Message], ask: Ask) -> Move:
        """What it does after that."""
        ...

    def observed(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
        """What it is shown of its calls' results."""
        ...


@dataclass(frozen=True)
class Native:
    """Tool calls as endpoints have them."""

    prompt: Prompt[str]
    tools: Sequence[Tool]
    sampling: Sampling
    policy: Policy
    role: str

    def opening(self, record: Prompted) -> tuple[Message, ...]:
        """The rendered prompt."""
        return self.prompt.fill(record).messages

    async def move(self, shown: Sequence[Message], ask: Ask) -> Move:
        """Ask with the tools' schemas."""
        schemas = tuple(tool.schema for tool in self.tools)
        request = Request(tuple(shown), str, self.sampling, self.policy, self.prompt.label, schemas)
        reply = await ask.reply(request, self.role)
        asked = reply.completion.tool_calls
        calls = tuple(_read(call, f"call_{len(shown)}_{number}") for number, call in enumerate(asked))
        said = Message("assistant", reply.text, tuple(call.plain for call in calls))
        return Move(said, reply.text, calls, reply.reasoning)

    def observed(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
        """A tool's turn for each call."""
        return answers(calls, outcomes)


@dataclass(frozen=True)
class React:
    """A thought and a call as a typed reply, for teachers without tool calls of their own.

    Reference: Yao et al. 2022, ReAct, arXiv:2210.03629.
    """

    prompt: Prompt[ReactTurn]
    tools: Sequence[Tool]
    sampling: Sampling
    policy: Policy
    role: str

    def opening(self, record: Prompted) -> tuple[Message, ...]:
        """The rendered prompt, with the tools in it."""
        described = [
            {"name": tool.name, "description": tool.description, "parameters": canonical(tool.parameters)}
            for tool in self.tools
        ]
        return self.prompt.fill(record, tools=described).messages

    async def move(self, shown: Sequence[Message], ask: Ask) -> Move:
        """Ask for a thought and a call."""
        request = Request(tuple(shown), self.prompt.reply, self.sampling, self.policy, self.prompt.label)
        reply = await ask.reply(request, self.role)
        turn = reply.value
        said = Message("assistant", turn.model_dump_json())
        thought = "\n\n".join(part for part in (reply.reasoning, turn.thought) if part)
        if turn.tool is None:
            return Move(said, (turn.answer or "").strip(), reasoning=thought or None)
        call = Call(f"call_{len(shown)}_0", turn.tool, canonical(turn.arguments), turn.arguments)
        return Move(said, turn.thought, (call,), reply.reasoning)

    def observed(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
        """A user's turn."""
        return (Message("user", "\n\n".join(f"Observation: {outcome.text}" for outcome in outcomes)),)


def answers(calls: Sequence[Call], outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
    """A tool's turn for each call."""
    pairs = zip(calls, outcomes, strict=True)
    return tuple(Message("tool", outcome.text, tool_call_id=call.id, name=call.name) for call, outcome in pairs)


def followed(shown: Sequence[Message], more: Sequence[Message]) -> tuple[Message, ...]:
    """Messages and what comes after them; of two user turns in a row, which some templates refuse, one is made."""
    if shown and more and shown[-1].role == more[0].role == "user":
        joined = Message("user", (*parts(shown[-1]), "\n\n", *parts(more[0])))
        if isinstance(shown[-1].content, str) and isinstance(more[0].content, str):
            joined = Message("user", joined.text)
        return (*shown[:-1], joined, *more[1:])
    return (*shown, *more)


def parts(message: Message) -> tuple[str | Image, ...]:
    """What a turn says, in parts."""
    return (message.content,) if isinstance(message.content, str) else message.content


def voice(
    style: Literal["native", "react"],
    prompt: Prompt[Any],
    tools: Sequence[Tool],
    sampling: Sampling,
    policy: Policy,
    role: str,
) -> Voice:
    """The style's."""
    return (Native if style == "native" else React)(prompt, tools, sampling, policy, role)


def _read(call: Mapping[str, Any], fallback: str) -> Call:
    """A call as it came; arguments that are no JSON object are kept as a text in one.

    Raises:
        ParseError: it names no tool.
    """
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(name := function.get("name"), str) or not name:
        raise ParseError(f"the teacher calls a tool without a name: {str(call)[:200]!r}")
    given = function.get("arguments")
    found = Call(str(call.get("id") or fallback), name, "{}", {})
    if given in (None, ""):
        return found
    try:
        arguments = storable(json.loads(given, parse_constant=_no_number) if isinstance(given, str) else given)
        problem = "" if isinstance(arguments, dict) else f"a JSON object is expected, not {str(given)[:80]!r}"
    except (ValueError, RecursionError) as error:
        arguments, problem = None, str(error)
    if problem:
        kept = canonical({"unreadable": given})
        return replace(found, text=kept, arguments=None, problem=problem)
    return replace(found, text=canonical(arguments), arguments=arguments)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
