"""Topics: the only place where what was drawn from pools becomes finer topics, and instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.prompt import Prompt
from synthkd.record import Instruction, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import Listed, at_least_one, distinct

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Brainstorm:
    """The same record several times, each with one more entry in its `meta`: from topics to subtopics, and further.

    `Brainstorm("subtopic", 30)` makes of a topic thirty records with `topic` and `subtopic`.

    Args:
        name: what is listed, and the entry's name.
        n: how many for each record.

    Reference: Ding et al. 2023, UltraChat, arXiv:2305.14233; Sun et al. 2023, Self-Align, arXiv:2305.03047.
    """

    name: str
    n: int = 10
    prompt: Prompt[Listed] = field(default_factory=lambda: Prompt("curation/brainstorm", Listed))
    sampling: Sampling = Sampling(temperature=0.7)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a name that is taken.

        Raises:
            ConfigError: a field of the record has this name.
        """
        if self.name in type(record).model_fields:
            raise ConfigError(
                f"Brainstorm({self.name!r}): {type(record).__name__} has a field of this name; take another"
            )
        self.prompt.check(record, "name", "n", "about")

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        more = {"name": self.name, "n": self.n, "about": _about(record)}
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **more)
        return [
            record.model_copy(update={"parents": (record.id,), "meta": {**record.meta, self.name: one}})
            for one in distinct((await ask(request, self.role)).items, ask, n=self.n)
        ]


@dataclass(frozen=True)
class FromSeed:
    """Instructions about what was drawn from pools: topics, entities, personas, principles.

    The built-in template shows all that the record holds, by name; one of your own may use the names.

    Args:
        n: instructions for each record.

    Reference: Wu et al. 2023, LaMini-LM, arXiv:2304.14402; Ding et al. 2023, UltraChat, arXiv:2305.14233; Sun et al.
        2023, Self-Align, arXiv:2305.03047.
    """

    n: int = 5
    prompt: Prompt[Listed] = field(default_factory=lambda: Prompt("curation/from_seed", Listed))
    sampling: Sampling = Sampling(temperature=0.7)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a record that holds nothing.

        Raises:
            ConfigError: there is nothing to write about.
        """
        if not record.carried() and "about" in self.prompt.variables:
            raise ConfigError(
                "FromSeed() was given a record that holds nothing; make its records with pool(topic=[...])"
            )
        self.prompt.check(record, "n", "about")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Instruction]:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, n=self.n, about=_about(record))
        texts = distinct((await ask(request, self.role)).items, ask, n=self.n)
        return [Instruction(parents=(record.id,), prompt=text, meta=record.carried()) for text in texts]


def _about(record: Record) -> dict[str, Any]:
    """What a template shows of a record: all that it carries but the names of sources."""
    return {name: value for name, value in record.carried().items() if not name.endswith("_source")}
