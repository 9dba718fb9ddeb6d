"""Tool calls inside a text: the only place where a text is annotated with calls and their results.

Invariant: without its calls an annotated text is the text that it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Document
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together
from synthkd.tools.course import Course
from synthkd.tools.tool import Tool, canonical

_WEIGHTS = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Of the tokens after a call; the paper's max(0, 1 - 0.2 t), before it is normalised."""


class Mark(BaseModel):
    """One place of a text at which a tool is called."""

    after: str = Field(min_length=1, description="The words right before the place, copied from the text exactly.")
    tool: str = Field(description="The tool's name.")
    arguments: dict[str, JsonValue] = Field(description="Its arguments.")


class Marks(BaseModel):
    """The typed reply of `Annotate`."""

    marks: list[Mark] = Field(description="The places, in the order of the text.")


@dataclass(frozen=True)
class _Found:
    place: int
    call: str
    result: str

    def written(self, result: bool = True) -> str:
        return f" [{self.call}{f' → {self.result}' if result else ''}]"


@dataclass(frozen=True)
class Annotate:
    """A text with tool calls and their results where they help: `... has 1400 [divide({"a": 400}) → 0.29] or 29% ...`.

    A teacher says where a call would stand. Each call is made; one whose tool refuses it, or whose place is not found
    in the text exactly once, is dropped and counted. With `least`, a call stays only if its result makes what follows
    more likely to `scorer`: by so much less is the weighted loss of the next five tokens, compared with no call and
    with a call without its result, whichever is better. A text that keeps no call is rejected (`no call`).

    Args:
        tools: without a state.
        draws: how often the teacher is asked; calls of all draws are put together, one for each place and call.
        least: least gain, in nats per weighted token; the paper has 1.0. None keeps every call that was carried out.
        scorer: the role whose likelihood counts, the student's own in the paper.
        window: characters after a place that are scored.

    Reference: Schick et al. 2023, Toolformer, arXiv:2302.04761.
    """

    tools: Sequence[Tool]
    draws: int = 1
    least: float | None = None
    scorer: str = "student"
    window: int = 80
    prompt: Prompt[Marks] = field(default_factory=lambda: Prompt("acting/annotate", Marks))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if not self.tools or self.draws < 1 or self.window < 1 or any(tool.stateful for tool in self.tools):
            raise ConfigError(
                f"Annotate({len(self.tools)} tools, draws={self.draws}, window={self.window}): expected at least one "
                "of each, and tools without a state"
            )

    def check(self, record: Document) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "tools")

    async def __call__(self, record: Document, ask: Ask) -> Sequence[Document]:
        described: list[dict[str, Any]] = [
            {"name": tool.name, "description": tool.description, "parameters": canonical(tool.parameters)}
            for tool in self.tools
        ]
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, tools=described)
        replies = await ask.many(request, self.draws, self.role)
        course, kept = Course(ask), []
        marks = {(m.after, m.tool, canonical(m.arguments)): m for reply in replies for m in reply.value.marks}
        for found in await together(self._found(record.text, mark, course) for mark in marks.values()):
            if isinstance(found, str):
                ask.dropped[f"call {found}"] += 1
            elif self.least is not None and await self._gain(record.text, found, ask) < self.least:
                ask.dropped["call without use"] += 1
            else:
                kept.append(found)
        if not kept:
            raise RecordError(f"none of {len(marks)} calls is of use", reason="no call")
        text = record.text
        for one in sorted(kept, key=lambda one: one.place, reverse=True):
            text = text[: one.place] + one.written() + text[one.place :]
        meta = {**record.meta, "calls": len(kept)}
        return [Document(parents=(record.id,), text=text, title=record.title, source=record.source, meta=meta)]

    async def _found(self, text: str, mark: Mark, course: Course) -> _Found | str:
        """A call that was carried out, or why it was not."""
        tool = next((tool for tool in self.tools if tool.name == mark.tool), None)
        if tool is None:
            return "of an unknown tool"
        if text.count(mark.after) != 1:
            return "without a place"
        outcome = await tool.use(mark.arguments, course)
        if outcome.failed:
            return "refused"
        place = text.index(mark.after) + len(mark.after)
        return _Found(place, f"{tool.name}({canonical(mark.arguments)})", outcome.text)

    async def _gain(self, text: str, one: _Found, ask: Ask) -> float:
        """By how much the result lowers the loss of what follows, in nats."""
        before, after = text[: one.place], text[one.place : one.place + self.window]
        if not after.strip():
            return 0.0
        prefixes = (before, before + one.written(result=False), before + one.written())
        losses = [_loss(await ask.score((Message("user", prefix),), after, self.scorer)) for prefix in prefixes]
        return min(losses[0], losses[1]) - losses[2]


def _loss(logprobs: Sequence[float]) -> float:
    """The weighted loss of the first tokens."""
    pairs = list(zip(_WEIGHTS, logprobs, strict=False))
    return -sum(weight * logprob for weight, logprob in pairs) / sum(weight for weight, _ in pairs) if pairs else 0.0
