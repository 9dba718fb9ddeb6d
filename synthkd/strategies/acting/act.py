"""Acting with tools: the only place where a teacher's calls are carried out, and where a search goes back and forth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, EmptyReply, ParseError, RecordError, Refused, Truncated
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Prompted
from synthkd.request import Policy, Sampling
from synthkd.strategies.acting.moves import GIVE_UP, Call, Move, ReactTurn, Voice, answers, followed, voice
from synthkd.strategies.branching import together
from synthkd.tools.course import Course
from synthkd.tools.tool import Outcome, Tool, Used


async def _gave_up(arguments: dict[str, Any]) -> Any:
    raise AssertionError("giving up is no call")


_GIVE_UP = Tool(
    GIVE_UP,
    "Leave this way of solving it because it leads nowhere, and try another.",
    {"type": "object", "properties": {}},
    _gave_up,
    lambda _: None,
)


@dataclass(frozen=True)
class _Path:
    """What has been done on the way to a point of the search."""

    shown: tuple[Message, ...]
    """As the teacher sees it."""
    kept: tuple[Message, ...] = ()
    """What the student learns of it: assistant and tool turns."""
    used: tuple[Used, ...] = ()
    thoughts: tuple[str | None, ...] = ()


@dataclass
class _Search:
    """One record's search."""

    record: Prompted
    tools: dict[str, Tool]
    voice: Voice
    course: Course
    left: int
    """Asks that may still be made."""
    refused: int = 0
    """Answers that were not accepted."""


@dataclass(frozen=True)
class Act:
    """A teacher solves each instruction with tools; the whole way there becomes a conversation with tool turns.

    Every result is journaled, so a replay calls no tool. Wrong arguments and unknown tools are told to the teacher.
    The conversation's messages are the record's prompt, then what was done; `meta` has `failed_calls`, and the
    teacher's thinking for each turn (`reasonings`) where it gave any. No answer within `turns` is a reject.

    With `branches` above 1, a search in depth: where a way ends (it gave up, ran out of turns, or its answer was not
    accepted), the last point before it is gone on from in another way, for which the teacher is shown what it tried.
    Only the way to the answer is kept. What the tools have changed is not undone.

    Args:
        tools: the tools, or a function of the record that gives them: for records that come with tools of their own,
            and for tools with a state, which must be made afresh for each record.
        style: `native` sends the tools along and reads the endpoint's tool calls; `react` describes them in the
            prompt and reads a thought and a call out of a typed reply. The conversation has the same form.
        turns: most replies on the way to an answer, the answer included.
        branches: ways that are tried from each point.
        budget: most replies for one record, over all branches.
        accept: whether an answer is right, by the record's gold answer, say. One that is not ends its branch.
        longest: characters of a result that the teacher and the student see.
        prompt: what opens the conversation; its reply type is `str` for `native`, and `ReactTurn` for `react`, which
            has the variable `tools` (`name`, `description`, `parameters`).
        different: what asks for another way; variable `tried`.

    Reference: Yao et al. 2022, ReAct, arXiv:2210.03629; Qin et al. 2023, ToolLLM, arXiv:2307.16789; Chen et al. 2023,
        FireAct, arXiv:2310.05915.
    """

    tools: Sequence[Tool] | Callable[[Any], Sequence[Tool]]
    style: Literal["native", "react"] = "native"
    turns: int = 8
    branches: int = 1
    budget: int = 32
    accept: Callable[[Any, str], bool] | None = None
    longest: int = 8000
    prompt: Prompt[Any] | None = None
    different: Prompt[str] = field(default_factory=lambda: Prompt("acting/different", str))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if self.style not in ("native", "react"):
            raise ConfigError(f"Act(style={self.style!r}): expected 'native' or 'react'")
        if min(self.turns, self.branches, self.budget, self.longest) < 1:
            raise ConfigError(
                f"Act(turns={self.turns}, branches={self.branches}, budget={self.budget}, longest={self.longest}): "
                "each must be at least 1"
            )
        reply = str if self.style == "native" else ReactTurn
        if self.prompt is None:
            object.__setattr__(self, "prompt", Prompt(f"acting/{self.style}", reply))
        elif not (isinstance(self.prompt.reply, type) and issubclass(self.prompt.reply, reply)):
            raise ConfigError(f"Act(style={self.style!r}, prompt={self.prompt}): its reply must be {reply.__name__}")
        if not callable(self.tools):
            self._by_name(self.tools)

    def check(self, record: Prompted) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self._prompt.check(record, *(("tools",) if self.style == "react" else ()))

    async def __call__(self, record: Prompted, ask: Ask) -> Sequence[Conversation]:
        tools = self._by_name(self._tools_of(record))
        offered = [*tools.values(), *([_GIVE_UP] if self.branches > 1 else [])]
        spoken = voice(self.style, self._prompt, offered, self.sampling, self.policy, self.role)
        search = _Search(record, tools, spoken, Course(ask), self.budget if self.branches > 1 else self.turns)
        found = await self._explored(_Path(spoken.opening(record)), self.turns, search)
        if found is None:
            raise self._nothing(search)
        meta: dict[str, JsonValue] = {
            **record.carried(),
            "failed_calls": sum(one.outcome.failed for one in found.used),
        }
        if any(found.thoughts):
            meta["reasonings"] = list(found.thoughts)
        messages = (*record.messages, *found.kept)
        schemas = tuple(tool.schema for tool in tools.values())
        return [Conversation(parents=(record.id,), messages=messages, tools=schemas, meta=meta)]

    @property
    def _prompt(self) -> Prompt[Any]:
        assert self.prompt is not None
        return self.prompt

    def _tools_of(self, record: Prompted) -> Sequence[Tool]:
        if not callable(self.tools):
            return self.tools
        try:
            return self.tools(record)
        except ConfigError as error:  # described by data, such as a document that a teacher wrote
            raise RecordError(str(error), reason="unusable tools") from error

    def _by_name(self, tools: Sequence[Tool]) -> dict[str, Tool]:
        found = {tool.name: tool for tool in tools}
        if len(found) != len(tools) or not found or (self.branches > 1 and GIVE_UP in found):
            names = ", ".join(tool.name for tool in tools) or "none"
            raise ConfigError(
                f"Act was given the tools {names}: expected at least one, each with a name of its own"
                f"{f', and none called {GIVE_UP}' if self.branches > 1 else ''}"
            )
        if stateful := [tool.name for tool in tools if tool.stateful]:
            if not callable(self.tools):
                raise ConfigError(
                    f"the tool {stateful[0]!r} has a state, which all records would share: "
                    "pass Act(tools=lambda record: ...), a function that makes it afresh for each record"
                )
            if self.branches > 1:
                raise ConfigError(
                    f"the tool {stateful[0]!r} has a state, and a search that goes back cannot undo what it did: "
                    "use branches=1, or draw several conversations and filter them"
                )
        return found

    def _nothing(self, search: _Search) -> RecordError:
        if search.refused:
            return RecordError(f"none of {search.refused} answers was accepted", reason="answer not accepted")
        return RecordError(
            f"no final answer within {self.turns} turns"
            + (f" of any branch, with {self.budget - search.left} replies in all" if self.branches > 1 else ""),
            reason="no final answer",
        )

    async def _explored(self, path: _Path, turns: int, search: _Search) -> _Path | None:
        """The first way from here to an answer that is accepted, or None."""
        tried: list[str] = []
        for _ in range(self.branches):
            if search.left <= 0:
                return None
            search.left -= 1
            move = await self._moved(path, tried, search)
            if move is None:  # to ask the same again would give the same
                return None
            if move.summary in tried:
                continue
            tried.append(move.summary)
            if not move.calls:
                if self.accept is None or self.accept(search.record, move.text):
                    return self._answered(path, move)
                search.refused += 1
                continue
            if self.branches > 1 and any(call.name == GIVE_UP for call in move.calls):
                return None
            if turns > 1:
                further = await self._carried_out(path, move, search)
                if found := await self._explored(further, turns - 1, search):
                    return found
        return None

    async def _moved(self, path: _Path, tried: Sequence[str], search: _Search) -> Move | None:
        shown = path.shown
        if tried:
            shown = followed(shown, self.different.render(tried=list(tried)).messages)
        try:
            return await search.voice.move(shown, search.course.ask)
        except (ParseError, Refused, Truncated, EmptyReply) as error:
            if self.branches == 1:
                raise
            search.course.ask.dropped[f"branch {error.reason}"] += 1
            return None

    def _answered(self, path: _Path, move: Move) -> _Path:
        kept = (*path.kept, Message("assistant", move.text))
        return replace(path, kept=kept, thoughts=(*path.thoughts, move.reasoning))

    async def _carried_out(self, path: _Path, move: Move, search: _Search) -> _Path:
        """The path with a turn's calls and what they gave."""
        if any(tool.stateful for call in move.calls if (tool := search.tools.get(call.name))):
            outcomes = [await self._outcome(call, path.used, search) for call in move.calls]  # in their order
        else:
            outcomes = await together(self._outcome(call, path.used, search) for call in move.calls)
        pairs = zip(move.calls, outcomes, strict=True)
        used = tuple(Used(call.name, call.text, outcome) for call, outcome in pairs)
        said = Message("assistant", move.text, tuple(call.plain for call in move.calls))
        return _Path(
            shown=(*path.shown, move.said, *search.voice.observed(move.calls, outcomes)),
            kept=(*path.kept, said, *answers(move.calls, outcomes)),
            used=(*path.used, *used),
            thoughts=(*path.thoughts, move.reasoning),
        )

    async def _outcome(self, call: Call, earlier: Sequence[Used], search: _Search) -> Outcome:
        tool = search.tools.get(call.name)
        if tool is None:
            return Outcome(f"Error: there is no tool {call.name!r}; there are: {', '.join(search.tools)}", failed=True)
        if call.arguments is None:
            return Outcome(f"Error: the arguments cannot be read: {call.problem}", failed=True)
        outcome = await tool.use(call.arguments, search.course, earlier)
        if len(outcome.text) <= self.longest:
            return outcome
        cut = f"{outcome.text[: self.longest]}\n(the first {self.longest} of {len(outcome.text)} characters)"
        return replace(outcome, text=cut)
