"""Revision: the only place where a text is criticised and written anew.

Invariant: what was criticised and what it said before travel in `meta`; a round that fails costs no earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Preference
from synthkd.request import Policy, Sampling
from synthkd.strategies.feedback.question import SHOWN, UNREADABLE, shown

R = TypeVar("R", bound=Demonstration | Instruction)


class Critique(BaseModel):
    """The typed reply of a critic."""

    critique: str = Field(description="What is wrong with the text and how it could be mended, or why it can stay.")
    fault: bool = Field(description="Whether anything has to be changed.")


@dataclass
class _Course:
    """What became of a text, round by round."""

    first: str
    rounds: list[tuple[str, str | None]] = field(default_factory=list)
    """Each critique, with the text written after it, if any was."""
    reasoning: str | None = None
    settled: bool = False

    @property
    def texts(self) -> list[str]:
        return [self.first, *(text for _, text in self.rounds if text is not None)]

    def written_out(self) -> str:
        """All of it as one text."""
        parts = [self.first]
        for critique, text in self.rounds:
            parts.append(f"Feedback: {critique}")
            if text is not None:
                parts.append(f"Revision: {text}")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Revise:
    """A text criticised and rewritten, until the critic finds nothing to change or the rounds are used up.

    Of a `Demonstration` the completion is revised, of an `Instruction` its last user turn. In `meta` stand `earlier`
    (what the text was, the first one first), `critiques`, `settled` (whether the last critique found no fault), and the
    `principles` that were drawn. With principles, each round draws one, and a round whose critic finds no fault goes on
    to the next.

    Args:
        principles: what a critic looks for; drawn without repeating one before all have been used.
        rounds: critiques at most.
        keep: `last`: the last revision is what is learnt. `all`: the first text with every critique and revision after
            it, as one text.
        given: the field or entry of `meta` that holds a critique already, such as a human's `feedback`; the first round
            asks no critic.
        critique: the critic's prompt.
        prompt: the writer's prompt.
        role: who rewrites.
        critic: who criticises; the same teacher unless the run has a judge.

    Raises:
        ConfigError: arguments that make no sense.

    Reference: Bai et al. 2022, Constitutional AI, arXiv:2212.08073; Ye et al. 2023, SelFee (no paper; kaistAI/SelFee);
        Li et al. 2023, Reflection-Tuning, arXiv:2310.11716; Scheurer et al. 2023, ILF, arXiv:2303.16755.
    """

    principles: tuple[str, ...] = ()
    rounds: int = 1
    keep: Literal["last", "all"] = "last"
    given: str | None = None
    critique: Prompt[Critique] = field(default_factory=lambda: Prompt("feedback/critique", Critique))
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("feedback/revise", str))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"
    critic: str = "judge"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"Revise(rounds={self.rounds}): at least one is needed")
        if self.keep not in ("last", "all"):
            raise ConfigError(f"Revise(keep={self.keep!r}): expected last or all")
        if isinstance(self.principles, str):
            raise ConfigError("Revise(principles=...): expected a tuple of texts, and got one text")

    def check(self, record: Demonstration | Instruction) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        if self.keep == "all" and isinstance(record, Instruction):
            raise ConfigError("Revise(keep='all') makes a completion of all rounds, and an Instruction has none")
        self.critique.check(record, *SHOWN, "principle")
        self.prompt.check(record, *SHOWN, "principle", "critique")

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        self.check(record)
        if isinstance(record, Instruction) and all(turn.role != "user" for turn in record.messages):
            raise RecordError("the prompt has no user turn to revise", reason="no user turn")
        course, principles = await self._course(record, ask)
        meta = {
            **record.meta,
            "earlier": course.texts[:-1],
            "critiques": [critique for critique, _ in course.rounds],
            "settled": course.settled,
        }
        if principles:
            meta["principles"] = principles
        update: dict[str, Any] = {"parents": (record.id,), "meta": meta}
        if isinstance(record, Instruction):
            update["prompt"] = _with_last_turn(record, course.texts[-1])
        else:
            update["completion"] = course.texts[-1] if self.keep == "last" else course.written_out()
            if len(course.texts) > 1:
                update["reasoning"] = course.reasoning
        return [cast(R, record.model_copy(update=update))]

    async def _course(self, record: Demonstration | Instruction, ask: Ask) -> tuple[_Course, list[str]]:
        """The rounds, and the principles that were drawn for them."""
        course = _Course(record.completion if isinstance(record, Demonstration) else record.instruction)
        drawn: list[str] = []
        for turn, principle in enumerate(islice(_drawn(self.principles, ask.rng), self.rounds)):
            fields = shown(record)
            fields["answer" if isinstance(record, Demonstration) else "instruction"] = course.texts[-1]
            fields["principle"] = principle
            try:
                found = await self._criticised(record, fields, ask, turn)
                drawn += [principle] if principle is not None else []
                course.settled = not found.fault
                if course.settled:
                    course.rounds.append((found.critique, None))
                    if not self.principles:
                        break
                    continue
                asked = {"sampling": self.sampling, "policy": self.policy, **fields, "critique": found.critique}
                reply = await ask.reply(self.prompt.fill(record, **asked), self.role)
            except UNREADABLE as error:
                if not course.rounds:
                    raise
                ask.dropped[f"round {error.reason}"] += 1
                break
            course.rounds.append((found.critique, reply.value))
            course.reasoning = reply.reasoning
        return course, drawn

    async def _criticised(
        self, record: Demonstration | Instruction, fields: dict[str, Any], ask: Ask, turn: int
    ) -> Critique:
        if self.given is None or turn:
            request = self.critique.fill(record, sampling=self.sampling, policy=self.policy, **fields)
            return await ask(request, self.critic)
        said = record.variables().get(self.given)
        if not isinstance(said, str) or not said.strip():
            raise RecordError(f"the record has no critique under {self.given!r}, but {said!r}", reason="no critique")
        return Critique(critique=said, fault=True)


@dataclass(frozen=True)
class RevisedPair:
    """The revised completion over the original one, as a preference.

    Args:
        revise: how it is revised. A completion that its critic lets stand has no better one: "nothing to revise".

    Reference: Bai et al. 2022, Constitutional AI, arXiv:2212.08073.
    """

    revise: Revise = field(default_factory=Revise)

    def check(self, record: Demonstration) -> None:
        """Refuse a template that wants what neither the record nor the strategy has."""
        self.revise.check(record)

    async def __call__(self, record: Demonstration, ask: Ask) -> Sequence[Preference]:
        [revised] = await replace(self.revise, keep="last")(record, ask)
        if revised.completion == record.completion:
            raise RecordError("the critic or the writer let the completion stand", reason="nothing to revise")
        return [
            Preference(
                parents=(record.id,),
                prompt=record.prompt,
                chosen=revised.completion,
                rejected=record.completion,
                meta={**record.carried(), **revised.meta},
            )
        ]


def _drawn(principles: Sequence[str], rng: Random) -> Iterator[str | None]:
    """One for each round, without end; all of them before any comes again."""
    while True:
        yield from rng.sample(principles, len(principles)) if principles else (None,)


def _with_last_turn(record: Instruction, text: str) -> str | tuple[Message, ...]:
    """The prompt with another text in its last user turn, beside the pictures that it has."""
    if isinstance(record.prompt, str):
        return text
    last = max(place for place, turn in enumerate(record.prompt) if turn.role == "user")
    turn = record.prompt[last]
    written = replace(turn, content=(*turn.images, text) if turn.images else text)
    return (*record.prompt[:last], written, *record.prompt[last + 1 :])
