"""Demonstrations in context: the only place that draws examples from pools and shows them to a teacher.

Invariant: a record is never shown as an example of itself, and `meta["shots"]` holds the ids of those that were shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from synthkd.ask import Ask, Strategy
from synthkd.errors import ConfigError
from synthkd.message import Message
from synthkd.ordering import plain
from synthkd.record import Prompted, Record
from synthkd.request import Request
from synthkd.strategies.branching import Branch, check
from synthkd.strategies.turns import with_turns

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)

Pool = Sequence[Any]


def about(text: str) -> int:
    """Tokens of a text, roughly: a fourth of its characters, rounded up."""
    return -(-len(text) // 4)


@dataclass(frozen=True)
class Shots(Generic[In, Out]):
    """A strategy that is shown examples, drawn anew for each record by `ask.rng`.

    They go before the conversation, as turns of user and assistant; or, with `variable`, into the strategy's template,
    as a list of dicts that hold each example's fields, the entries of its `meta` and its `instruction`.

    A pool may grow between two maps, but not during one. One that is a stage is read from disk again for each record:
    give `list(stage)` where it fits into memory.

    Args:
        strategy: who asks.
        pool: records with a prompt and a completion (with `variable`, of any kind); several such pools as a tuple; or a
            function from the record to either.
        k: how many are drawn, all of a smaller pool; for several pools a tuple with a number for each.
        shuffle: show them in the order of the draw, pools mixed; else in that of the pools.
        budget: tokens that the examples may take together; those that do not fit are left out.
        count: tokens of a text; by default a fourth of its characters.
        variable: the template's variable for them.
        answer: what the assistant says in an example's turn. By default its completion, or what a typed reply would be.

    Reference: Brown et al. 2020, in-context learning, arXiv:2005.14165; Wang et al. 2022, Self-Instruct,
        arXiv:2212.10560.
    """

    strategy: Strategy[In, Out]
    pool: Pool | tuple[Pool, ...] | Callable[[In], Pool | tuple[Pool, ...]] = field(repr=False)
    k: int | tuple[int, ...] = 3
    shuffle: bool = True
    budget: int | None = None
    count: Callable[[str], int] = about
    variable: str | None = None
    answer: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        counts = self.k if isinstance(self.k, tuple) else (self.k,)
        if not counts or any(count < 0 for count in counts) or not any(counts):
            raise ConfigError(f"Shots(k={self.k}): at least one example is needed")
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"Shots(budget={self.budget}): at least one token is needed, or None for no limit")
        if not callable(self.pool):
            self._pools(self.pool)

    def check(self, record: In) -> None:
        """Refuse a template that wants what the record does not have."""
        check(self.strategy, _with(record, self.variable, []) if self.variable else record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        shots = self._fitting(self._drawn(record, ask.rng))
        ids = [shot.id for shot in shots]
        if self.variable is None:
            turned = Branch(ask, change=lambda request: self._turned(request, shots))
            outputs = await self.strategy(record, turned) or ()
        else:
            shown = _with(record, self.variable, [_offered(shot) for shot in shots])
            given = await self.strategy(shown, ask) or ()
            outputs = [_without(output, self.variable, shown, record) for output in given]
        return [output.model_copy(update={"meta": {**output.meta, "shots": ids}}) for output in outputs]

    def _pools(self, given: Any) -> list[tuple[Pool, int]]:
        """Each pool with how many are drawn of it."""
        if not isinstance(self.k, tuple):
            if not isinstance(given, Sequence) or isinstance(given, str):
                raise ConfigError(f"Shots(pool=...) is a {type(given).__name__}; expected a sequence of records")
            return [(given, self.k)]
        if not isinstance(given, tuple) or len(given) != len(self.k):
            held = f"{len(given)}" if isinstance(given, tuple) else f"a {type(given).__name__}"
            raise ConfigError(f"Shots(k={self.k}) needs a tuple of {len(self.k)} pools, and was given {held}")
        return list(zip(given, self.k, strict=True))

    def _drawn(self, record: In, rng: Random) -> list[Record]:
        shots: list[Record] = []
        for pool, k in self._pools(self.pool(record) if callable(self.pool) else self.pool):
            places = rng.sample(range(len(pool)), min(k + 1, len(pool)))  # one more, in place of the record itself
            mine = [(place, shot) for place in places if not _same(shot := _example(pool[place]), record)][:k]
            shots += [shot for _, shot in (mine if self.shuffle else sorted(mine, key=lambda pair: pair[0]))]
        if self.shuffle:
            rng.shuffle(shots)
        return shots

    def _fitting(self, shots: list[Record]) -> list[Record]:
        if self.budget is None:
            return shots
        left, fitting = self.budget, []
        for shot in shots:
            cost = self.count(_text(shot))
            if cost <= left:
                left -= cost
                fitting.append(shot)
        return fitting

    def _turned(self, request: Request[Any], shots: Sequence[Record]) -> Request[Any]:
        turns: list[Message] = []
        for shot in shots:
            if not isinstance(shot, Prompted):
                raise ConfigError(f"Shots shows a {type(shot).__name__} as turns, and it has no prompt: {_CURE}")
            said = self.answer(shot) if self.answer else _reply(shot, request.reply)
            turns += [*(turn for turn in shot.messages if turn.role != "system"), Message("assistant", said)]
        return replace(request, messages=with_turns(request.messages, turns))


_CURE = "give Shots(variable=...) a template that takes examples, or answer=... from an example to what is said"


def _example(found: object) -> Record:
    if not isinstance(found, Record):
        raise ConfigError(f"Shots(pool=...) holds a {type(found).__name__}; expected records with a completion")
    return found


def _with(record: In, variable: str, shots: list[dict[str, Any]]) -> In:
    """The record with its examples among what a template may use."""
    return record.model_copy(update={"meta": {**record.meta, variable: shots}})


def _without(output: Out, variable: str, shown: Record, record: Record) -> Out:
    """An output as if it had been made of the record without its examples."""
    meta = {name: value for name, value in output.meta.items() if name != variable}
    if variable in record.meta:
        meta[variable] = record.meta[variable]
    parents = tuple(record.id if parent == shown.id else parent for parent in output.parents)
    return output.model_copy(update={"meta": meta, "parents": parents})


def _same(shot: Record, record: Record) -> bool:
    if isinstance(shot, Prompted) and isinstance(record, Prompted):
        return shot.messages == record.messages
    return shot.id == record.id


def _offered(shot: Record) -> dict[str, Any]:
    found = plain(shot, exclude={"parents", "meta"})
    return {**shot.meta, **found, **({"instruction": shot.instruction} if isinstance(shot, Prompted) else {})}


def _text(shot: Record) -> str:
    """All of an example that a teacher may read."""
    own = plain(shot, exclude={"parents", "meta", "prompt"}, exclude_defaults=True)
    said = [turn.text for turn in shot.messages] if isinstance(shot, Prompted) else []
    return "\n".join([*said, *(str(value) for value in own.values())])


def _reply(shot: Prompted, reply: Any) -> str:
    """An example's answer in the form of the reply that is asked for."""
    completion = getattr(shot, "completion", None)
    if not isinstance(completion, str):
        raise ConfigError(f"Shots shows a {type(shot).__name__} as turns, and it has no completion: {_CURE}")
    if reply is str:
        return completion
    offered = {**shot.meta, **shot.variables(), "answer": completion, "program": completion}
    try:
        made = reply.model_validate({name: offered[name] for name in reply.model_fields if name in offered})
    except ValidationError:
        raise ConfigError(f"Shots cannot write a {type(shot).__name__} as a {reply.__name__}: {_CURE}") from None
    return str(made.model_dump_json())
