"""Answers: strategies that ask once for each instruction and differ in what the answer is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import RecordError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction
from synthkd.reply import Reply
from synthkd.request import Policy, Sampling
from synthkd.strategies.labeling.making import demonstration
from synthkd.strategies.turns import asked

T = TypeVar("T")


class Reasoned(BaseModel):
    """The typed reply of `Rationale`."""

    reasoning: str = Field(description="The steps, in order.")
    answer: str = Field(description="The final answer, alone.")


class Programmed(BaseModel):
    """The typed reply of `ProgramOfThought`."""

    program: str = Field(description="A whole Python program that prints the final answer and nothing else.")


@dataclass(frozen=True)
class _OneReply(ABC, Generic[T]):
    """One call for an instruction, one demonstration of its reply."""

    prompt: Prompt[T]
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Demonstration]:
        request = asked(self.prompt, record, self.sampling, self.policy)
        return [self._made(record, await ask.reply(request, self.role))]

    @abstractmethod
    def _made(self, record: Instruction, reply: Reply[T]) -> Demonstration: ...


@dataclass(frozen=True)
class Answer(_OneReply[str]):
    """One answer to each instruction, in plain text; the teacher's own thinking is kept beside it.

    The teacher sees the whole conversation that the record's prompt is.
    """

    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/answer", str))

    def _made(self, record: Instruction, reply: Reply[str]) -> Demonstration:
        return demonstration(record, reply.value, reply.reasoning)


@dataclass(frozen=True)
class Think(_OneReply[str]):
    """An answer behind a block of thinking: the teacher's own reasoning, or what it puts between `<think>` tags.

    `run.save(..., reasoning="think")` writes the block before the completion. A teacher that thinks unasked needs no
    template that asks for it: `Think(prompt=Prompt("labeling/answer", str))`. An answer without any thinking before it
    rejects the record ("no reasoning").

    Reference: DeepSeek-AI 2025, DeepSeek-R1, arXiv:2501.12948.
    """

    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/think", str))

    def _made(self, record: Instruction, reply: Reply[str]) -> Demonstration:
        if not (reply.reasoning or "").strip():
            raise RecordError("the teacher answered without any thinking before it", reason="no reasoning")
        return demonstration(record, reply.value, reply.reasoning)


@dataclass(frozen=True)
class Rationale(_OneReply[Reasoned]):
    """Step-by-step reasoning as a typed reply: the steps become `reasoning`, the final answer the completion.

    Reference: Wei et al. 2022, Chain-of-Thought Prompting, arXiv:2201.11903; Hsieh et al. 2023, Distilling
        Step-by-Step, arXiv:2305.02301.
    """

    prompt: Prompt[Reasoned] = field(default_factory=lambda: Prompt("labeling/rationale", Reasoned))

    def _made(self, record: Instruction, reply: Reply[Reasoned]) -> Demonstration:
        steps = "\n\n".join(part for part in (reply.reasoning, reply.value.reasoning) if part)
        return demonstration(record, reply.value.answer, steps)


@dataclass(frozen=True)
class ProgramOfThought(_OneReply[Programmed]):
    """A program whose output is the answer; the program is the completion.

    Nothing runs it here: `Verified(ProgramOfThought(), verify=...)` takes an async function that does, in a sandbox.

    Reference: Chen et al. 2022, Program of Thoughts, arXiv:2211.12588; Yue et al. 2023, MAmmoTH, arXiv:2309.05653.
    """

    prompt: Prompt[Programmed] = field(default_factory=lambda: Prompt("labeling/program", Programmed))

    def _made(self, record: Instruction, reply: Reply[Programmed]) -> Demonstration:
        program = reply.value.program.strip()
        if not program:
            raise RecordError("the teacher's program is empty", reason="empty program")
        return demonstration(record, program, reply.reasoning)
