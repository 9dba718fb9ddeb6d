"""Self-Instruct: the only place that draws examples from a human and a grown pool, and asks for more like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pydantic import Field

from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Prompted, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import Listed, at_least_one, distinct, drawn, entries


class Examples(Record):
    """What a teacher is shown in one call, to write more of the kind; its parents are the records it was drawn from."""

    instructions: tuple[str, ...] = Field(min_length=1)
    completions: tuple[str, ...] = ()
    """The completion of each; empty where one of them has none."""


def draw(
    human: Sequence[Prompted], grown: Sequence[Prompted], rng: Random, human_k: int = 6, grown_k: int = 2
) -> Examples:
    """Draw the examples of one call, shuffled.

    Args:
        human: the seeds.
        grown: what has been made so far; while it is short, seeds take the places.
        rng: decides what is drawn.
        human_k: places for seeds; where there are fewer, all are taken.
        grown_k: places for what has grown.

    Raises:
        ConfigError: there is nothing to draw from, or no place.
    """
    of_grown = min(grown_k, len(grown))
    of_human = min(human_k + grown_k - of_grown, len(human))
    picked = [*rng.sample(human, of_human), *rng.sample(grown, of_grown)]
    if not picked:
        raise ConfigError(
            f"draw(human_k={human_k}, grown_k={grown_k}) of {len(human)} seeds and {len(grown)} grown records gives no "
            "example; expected at least one"
        )
    rng.shuffle(picked)
    answered = all(isinstance(one, Demonstration) for one in picked)
    return Examples(
        parents=tuple(one.id for one in picked),
        instructions=tuple(one.instruction for one in picked),
        completions=tuple(one.completion for one in picked if isinstance(one, Demonstration)) if answered else (),
    )


@dataclass(frozen=True)
class FromExamples:
    """What strategies have in common that a set grows by: how many examples are shown, and who is asked."""

    n: int
    human_k: int
    grown_k: int
    prompt: Prompt[Any]
    hints: Sequence[str] = ()
    hints_k: int = 3
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def draw(self, seeds: Sequence[Prompted], grown: Sequence[Prompted], rng: Random) -> Examples:
        """The examples of one call."""
        return draw(seeds, grown, rng, self.human_k, self.grown_k)

    def check(self, record: Examples) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "examples", "n", "hints")


@dataclass(frozen=True)
class SelfInstruct(FromExamples):
    """New instructions after the model of the examples shown; meant for `run.grow`, which draws them with `draw`.

    A reply in plain text is taken as a numbered list, or as one instruction where nothing is numbered; so
    `prompt=Prompt("expansion/imitate", str)` works as well.

    Args:
        n: instructions asked for in one call.
        human_k: places for human examples.
        grown_k: places for examples that have grown.
        hints: topics, of which `hints_k` are drawn for each call; what is made has them in `meta` as `hints`.

    Reference: Wang et al. 2022, Self-Instruct, arXiv:2212.10560; hints: Wu et al. 2023, LaMini-LM, arXiv:2304.14402,
        and Sun et al. 2023, Self-Align, arXiv:2305.03047.
    """

    n: int = 8
    human_k: int = 6
    grown_k: int = 2
    prompt: Prompt[Any] = field(default_factory=lambda: Prompt("expansion/self_instruct", Listed))
    sampling: Sampling = Sampling(temperature=0.7)

    async def __call__(self, record: Examples, ask: Ask) -> Sequence[Instruction]:
        hints = drawn(self.hints, self.hints_k, ask)
        more = {"examples": list(record.instructions), "n": self.n, "hints": hints}
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **more)
        texts = distinct(entries(await ask(request, self.role)), ask, n=self.n, known=record.instructions)
        meta = {**record.meta, "hints": hints} if hints else record.meta
        return [Instruction(parents=(record.id,), prompt=text, meta=meta) for text in texts]
