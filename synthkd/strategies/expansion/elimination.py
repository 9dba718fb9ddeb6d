"""Elimination: the only place that says when an evolved instruction is no good."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import EmptyReply, ParseError, Refused, Truncated
from synthkd.prompt import Prompt
from synthkd.record import Instruction
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import folded

Rule: TypeAlias = Callable[[Instruction, Instruction, Ask], Awaitable[str | None]]
"""`(before, after, ask) -> None or the reason why the evolved form is thrown away`."""

_LEAKS = (
    "given prompt",
    "rewritten prompt",
    "#rewritten",
    "given instruction",
    "rewritten instruction",
    "new problem:",
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_STOP_WORDS = frozenset(
    """
    a about after again all also am an and any are as at be because been before being but by can could did do does
    for from had has have he her here hers him his how i if in into is it it's its just me more most my nor not of
    off on once only or other our out over own same she should so some such than that the their them then there these
    they this those through to too under until up very was we were what when where which while who whom why will with
    would you your
    """.split()  # noqa: SIM905
)


class Equality(BaseModel):
    """The typed verdict of `NoGain`'s judge."""

    reason: str = Field(description="What one demands and the other does not, if anything.")
    equal: bool = Field(description="Whether the two are equal.")


@dataclass(frozen=True)
class Leaked:
    """Eliminates what speaks of the rewriting itself.

    Args:
        words: texts that were not in the earlier form and give it away, in any letter case.
    """

    words: tuple[str, ...] = _LEAKS

    async def __call__(self, before: Instruction, after: Instruction, ask: Ask) -> str | None:
        old, new = folded(before.instruction), folded(after.instruction)
        return "leaked prompt" if any(word in new and word not in old for word in self.words) else None


@dataclass(frozen=True)
class NoGain:
    """Eliminates what a judge finds equal to the earlier form; a verdict that cannot be read eliminates nothing."""

    prompt: Prompt[Equality] = field(default_factory=lambda: Prompt("expansion/equal", Equality))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "judge"

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what neither the record nor this rule has."""
        self.prompt.check(record, "before", "after")

    async def __call__(self, before: Instruction, after: Instruction, ask: Ask) -> str | None:
        if folded(before.instruction) == folded(after.instruction):
            return "nothing gained"
        texts = {"before": before.instruction, "after": after.instruction}
        request = self.prompt.fill(after, sampling=self.sampling, policy=self.policy, **texts)
        try:
            return "nothing gained" if (await ask(request, self.role)).equal else None
        except (ParseError, Refused, Truncated, EmptyReply) as error:
            ask.dropped[f"verdict {error.reason}"] += 1
            return None


@dataclass(frozen=True)
class Unanswered:
    """Eliminates what the teacher does not answer: it refuses, or is sorry in few words, or says only stop words.

    With the prompt and sampling of a later `Answer`, the answer is paid for once.

    Args:
        words: an answer with the word "sorry" in it counts as one when it has at least so many words.
    """

    words: int = 80
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/answer", str))
    sampling: Sampling = Sampling()
    policy: Policy = Policy(truncated="keep")
    role: str = "teacher"

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, before: Instruction, after: Instruction, ask: Ask) -> str | None:
        try:
            answer = await ask(self.prompt.fill(after, sampling=self.sampling, policy=self.policy), self.role)
        except (Refused, EmptyReply):
            return "unanswered"
        said = [word.replace("’", "'") for word in _WORD.findall(answer.casefold())]
        sorry = "sorry" in said and len(said) < self.words
        return "unanswered" if sorry or not set(said) - _STOP_WORDS else None


def wizardlm() -> tuple[Rule, ...]:
    """The paper's rules, those first that ask nobody."""
    return Leaked(), NoGain(), Unanswered()
