"""Problems from code: the only place where a snippet inspires a programming problem and its solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import RecordError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document
from synthkd.request import Policy, Sampling


class Problem(BaseModel):
    """The typed reply of `FromCode`."""

    problem: str = Field(min_length=1, description="The problem, complete by itself.")
    solution: str = Field(min_length=1, description="A complete and correct solution, code in fenced blocks.")


@dataclass(frozen=True)
class FromCode:
    """A programming problem and its solution, inspired by a snippet such as `snippets(...)` cuts out of source files.

    Args:
        kinds: of problems, such as "repair of faulty code"; one is drawn for each snippet, and `meta` has it as `kind`.
        good: cases shown as good ones.
        bad: cases shown as bad ones.

    Reference: Wei et al. 2023, Magicoder (OSS-Instruct), arXiv:2312.02120; kinds and cases: Yu et al. 2024, WaveCoder,
        arXiv:2312.14187.
    """

    kinds: Sequence[str] = ()
    good: Sequence[str] = ()
    bad: Sequence[str] = ()
    prompt: Prompt[Problem] = field(default_factory=lambda: Prompt("curation/from_code", Problem))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "teacher"

    def check(self, record: Document) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "kind", "good", "bad")

    async def __call__(self, record: Document, ask: Ask) -> Sequence[Demonstration]:
        if not record.text.strip():
            raise RecordError("the snippet has no text", reason="no text")
        kind = ask.rng.choice(self.kinds) if self.kinds else ""
        more = {"kind": kind, "good": list(self.good), "bad": list(self.bad)}
        reply = await ask(self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **more), self.role)
        problem, solution = reply.problem.strip(), reply.solution.strip()
        if not problem or not solution:
            raise RecordError("the reply has no problem or no solution", reason="no solution")
        meta = {**record.carried(), "kind": kind} if kind else record.carried()
        return [Demonstration(parents=(record.id,), prompt=problem, completion=solution, meta=meta)]
