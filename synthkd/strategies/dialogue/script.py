"""Whole conversations in one reply: the only place that reads a transcript that one teacher wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Prompted, Record
from synthkd.request import Policy, Sampling


class Line(BaseModel):
    """One turn of a `Script`."""

    speaker: Literal["person", "assistant"]
    text: str = Field(min_length=1)


class Script(BaseModel):
    """The typed reply of `SelfChat`: a conversation that alternates, from the person to the assistant."""

    turns: list[Line] = Field(min_length=2, description="The turns in their order; the person begins.")

    @model_validator(mode="after")
    def _in_turn(self) -> Self:
        if self.turns[0].speaker != "person" or any(a.speaker == b.speaker for a, b in pairwise(self.turns)):
            raise ValueError("person and assistant must take turns, and the person begins")
        return self


@dataclass(frozen=True)
class SelfChat:
    """A whole conversation in one reply, about what the record holds; a last turn of the person is left out.

    Args:
        rounds: about how often each of them speaks.

    Reference: Xu et al. 2023, Baize, arXiv:2304.01196; Zhao et al. 2023, ChatBridge, arXiv:2305.16103.
    """

    rounds: int = 3
    prompt: Prompt[Script] = field(default_factory=lambda: Prompt("dialogue/script", Script))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"SelfChat(rounds={self.rounds}): at least one is needed")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "rounds")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Conversation]:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, rounds=self.rounds)
        turns = (await ask(request, self.role)).turns
        last = len(turns) - (turns[-1].speaker == "person")
        messages = tuple(
            Message("user" if turn.speaker == "person" else "assistant", turn.text) for turn in turns[:last]
        )
        meta = record.carried() if isinstance(record, Prompted) else dict(record.meta)
        return [Conversation(parents=(record.id,), messages=messages, meta=meta)]
