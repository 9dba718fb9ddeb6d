"""Playing in an environment: the only place where a teacher's actions are taken, and what they give is observed.

Invariant: every observation is in the journal before the teacher sees it. A replay needs no environment as long as it
takes the recorded actions; where it goes on beyond them, they are first taken again in a fresh one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel, Field, JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Prompted, Record
from synthkd.request import Policy, Request, Sampling
from synthkd.strategies.acting.moves import followed
from synthkd.text import storable
from synthkd.tools.course import Course

R = TypeVar("R", bound=Record)
Seen = TypeVar("Seen", contravariant=True)


@dataclass(frozen=True, slots=True)
class Observation:
    """What an action gave."""

    text: str
    reward: float | None = None
    done: bool = False
    """Whether this is the end."""


class Environment(Protocol[Seen]):
    """Something to act in, for one record. The same actions must give the same observations."""

    async def reset(self, record: Seen) -> str:
        """Begin; the goal, and what is observed first."""
        ...

    async def step(self, action: str) -> Observation:
        """Take an action."""
        ...


class Deed(BaseModel):
    """The typed reply of one turn in an environment."""

    thought: str = Field(description="What you think before you act.")
    action: str = Field(min_length=1, description="The one action to take, in the environment's form.")


@dataclass(frozen=True)
class Play(Generic[R]):
    """A teacher acts in an environment until it is done; the whole way becomes a conversation.

    Its messages are what was observed (user) and what was thought and done (assistant), `Thought: ...` and
    `Action: ...`. `meta` has `reward`, the sum of all that were given (None if none was), so that a filter can select
    by it, and `last_observation`. Not done within `turns` is a reject (`not finished`).

    Args:
        environment: makes a fresh environment for a record.
        turns: most actions.
        rules: what is to be known of the environment beside the goal; the teacher's prompt has it, and the conversation
            as its system turn.
        longest: characters of an observation that teacher and student see.
        prompt: variable `rules`, and what the record has; what its `user` block says comes before what is observed.

    Reference: Zeng et al. 2023, AgentTuning, arXiv:2310.12823.
    """

    environment: Callable[[R], Environment[R]]
    turns: int = 16
    rules: str = ""
    longest: int = 8000
    prompt: Prompt[Deed] = field(default_factory=lambda: Prompt("acting/play", Deed))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if min(self.turns, self.longest) < 1:
            raise ConfigError(f"Play(turns={self.turns}, longest={self.longest}): each must be at least 1")

    def check(self, record: R) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "rules")

    async def __call__(self, record: R, ask: Ask) -> Sequence[Conversation]:
        world = _World(self.environment, record, Course(ask))
        opening = self.prompt.fill(record, rules=self.rules).messages
        begun = Message("user", self._cut(await world.begin()))
        shown = [*followed(opening, (begun,))]
        first = len(shown)
        thoughts: list[str | None] = []
        rewards: list[float] = []
        for _ in range(self.turns):
            request = Request(tuple(shown), self.prompt.reply, self.sampling, self.policy, self.prompt.label)
            reply = await ask.reply(request, self.role)
            deed = reply.value
            shown.append(Message("assistant", f"Thought: {deed.thought}\nAction: {deed.action}"))
            thoughts.append(reply.reasoning)
            found = await world.take(deed.action)
            rewards += [] if found.reward is None else [found.reward]
            if found.done:
                meta = record.carried() if isinstance(record, Prompted) else dict(record.meta)
                meta |= {"reward": math.fsum(rewards) if rewards else None, "last_observation": self._cut(found.text)}
                told = (*((Message("system", self.rules),) if self.rules else ()), begun)
                if any(thoughts):
                    meta["reasonings"] = cast(JsonValue, thoughts)
                return [Conversation(parents=(record.id,), messages=(*told, *shown[first:]), meta=meta)]
            shown.append(Message("user", self._cut(found.text)))
        raise RecordError(f"the environment is not done after {self.turns} actions", reason="not finished")

    def _cut(self, text: str) -> str:
        if len(text) <= self.longest:
            return text
        return f"{text[: self.longest]}\n(the first {self.longest} of {len(text)} characters)"


class _World(Generic[R]):
    """One record's environment, which is made when the journal does not have what it would give."""

    def __init__(self, make: Callable[[R], Environment[R]], record: R, course: Course) -> None:
        self._make = make
        self._record = record
        self._course = course
        self._live: Environment[R] | None = None

    async def begin(self) -> str:
        async def reset() -> JsonValue:
            self._live = self._make(self._record)
            return cast(str, storable(await self._live.reset(self._record)))

        return cast(str, await self._course.follow("reset", {}, reset))

    async def take(self, action: str) -> Observation:
        async def step() -> JsonValue:
            assert self._live is not None  # the course takes `reset` again before anything else
            found = await self._live.step(action)
            if found.reward is not None and not math.isfinite(found.reward):
                raise ConfigError(f"the environment gave the reward {found.reward}; expected a finite number or None")
            return {"text": storable(found.text), "reward": found.reward, "done": found.done}

        found = cast("dict[str, Any]", await self._course.follow("step", {"action": action}, step))
        return Observation(found["text"], found["reward"], found["done"])
