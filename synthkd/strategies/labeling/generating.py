"""Generate: one templated call, one typed reply, one record or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.prompt import Prompt
from synthkd.record import Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import survivors

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class Generate(Generic[In, T, Out]):
    """Whatever a template asks for: a rewrite, a description, a list of questions, a label.

    What is made of a reply keeps the `meta` of the record it was asked for, and its own entries before those.

    Args:
        prompt: what is asked; its variables are the record's fields, the entries of its `meta` and `instruction`.
        into: what becomes of the record and a reply: a record, or several. A `RecordError` in it rejects the reply.
        n: draws of the same request.
    """

    prompt: Prompt[T]
    into: Callable[[In, T], Out | Sequence[Out]]
    n: int = 1
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"Generate(n={self.n}): at least one draw is needed")

    def check(self, record: In) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy)
        replies = await ask.many(request, self.n, self.role)
        made = await survivors(ask, (("", self._made(record, reply.value)) for reply in replies))
        return [output for _, outputs in made for output in outputs]

    async def _made(self, record: In, reply: T) -> list[Out]:
        given = self.into(record, reply)
        carried = record.carried()
        return [
            one.model_copy(update={"parents": (record.id, *one.parents), "meta": {**carried, **one.meta}})
            for one in ([given] if isinstance(given, Record) else given)
        ]
