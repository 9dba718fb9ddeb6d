"""Textbooks: the only place where a teacher writes sections on topics, and exercises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import at_least_one, fresh, offered

_OPTIONAL = ("audience", "constraint", "passage")


class Exercise(BaseModel):
    """An exercise and its solution."""

    exercise: str = Field(min_length=1, description="The exercise, complete by itself.")
    solution: str = Field(min_length=1, description="Its complete and correct solution.")


class ExerciseList(BaseModel):
    """The typed reply of `Exercises`."""

    items: list[Exercise] = Field(min_length=1, description="The exercises.")


@dataclass(frozen=True)
class Textbook:
    """A section of a textbook, from any record that offers a `topic`, as `pool(topic=[...], audience=[...])` gives.

    It may offer more: an `audience`, a `constraint` for the sake of variety, a `passage` to draw on.

    Reference: Gunasekar et al. 2023, phi-1, arXiv:2306.11644; Li et al. 2023, phi-1.5, arXiv:2309.05463.
    """

    prompt: Prompt[str] = field(default_factory=lambda: Prompt("curation/textbook", str))
    sampling: Sampling = Sampling(temperature=0.8)
    policy: Policy = Policy()
    role: str = "teacher"

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a record without a topic."""
        self.prompt.check(record, *_OPTIONAL)

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Document]:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **offered(record, _OPTIONAL))
        text = (await ask(request, self.role)).strip()
        topic = record.variables().get("topic")
        title = topic if isinstance(topic, str) else None
        return [Document(parents=(record.id,), text=text, title=title, meta=record.carried())]


@dataclass(frozen=True)
class Exercises:
    """Exercises with their solutions, on a section of a textbook or on any record that the template can use.

    With `prompt=Prompt("curation/code_exercises", ExerciseList)` an exercise is a function's signature and docstring,
    from records that offer `topic` and `name`.

    Args:
        n: exercises for each record.

    Reference: Gunasekar et al. 2023, phi-1, arXiv:2306.11644.
    """

    n: int = 3
    prompt: Prompt[ExerciseList] = field(default_factory=lambda: Prompt("curation/exercises", ExerciseList))
    sampling: Sampling = Sampling(temperature=0.7)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "n")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Demonstration]:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, n=self.n)
        read = [(item.exercise.strip(), item.solution.strip()) for item in (await ask(request, self.role)).items]
        found = fresh(
            ((exercise if solution else "", (exercise, solution)) for exercise, solution in read), ask, n=self.n
        )
        return [
            Demonstration(parents=(record.id,), prompt=exercise, completion=solution, meta=record.carried())
            for exercise, solution in found
        ]
