"""Combinators: strategies made of strategies. One after another, one of several, again and again, by several teachers.

Invariants: an output's parents are the records it was made from; a part that fails where others succeed is counted in
the ledger's `dropped`; and a replay takes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Generic, TypeVar, overload

from synthkd.ask import Ask, Strategy
from synthkd.errors import ConfigError, RecordError
from synthkd.record import Candidates, Demonstration, Prompted, Ranking, Record
from synthkd.strategies.branching import Branch, check, child, survivors, together, twin

In = TypeVar("In", bound=Record)
Mid = TypeVar("Mid", bound=Record)
Late = TypeVar("Late", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)
P = TypeVar("P", bound=Prompted)


@dataclass(frozen=True)
class Chain(Generic[In, Out]):
    """What `chain` gives."""

    strategies: tuple[Strategy[Any, Any], ...]

    def check(self, record: In) -> None:
        """Let the first strategy check itself; the others see other records."""
        check(self.strategies[0], record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        found: Sequence[Any] = await self.strategies[0](record, ask) or ()
        for strategy in self.strategies[1:]:
            if not found:
                break
            chance = ask.rng.getrandbits(64)
            work = [("", _children(strategy, one, Branch(ask, rng=Random(f"{chance}:{one.id}")))) for one in found]
            given = await survivors(ask, work)
            found = [output for _, outputs in given for output in outputs]
        return found


@overload
def chain(first: Strategy[In, Mid], second: Strategy[Mid, Out], /) -> Chain[In, Out]: ...
@overload
def chain(first: Strategy[In, Mid], second: Strategy[Mid, Late], third: Strategy[Late, Out], /) -> Chain[In, Out]: ...
@overload
def chain(*strategies: Strategy[Any, Any]) -> Chain[Any, Any]: ...
def chain(*strategies: Strategy[Any, Any]) -> Chain[Any, Any]:
    """One strategy after another, each on what the one before it gave for the same record.

    What is between them is in no stage: its calls are in the journal, its records are not kept. An output that a later
    strategy rejects is dropped and counted; where all are, the record is rejected.
    """
    if not strategies:
        raise ConfigError("chain() needs at least one strategy")
    return Chain(strategies)


@dataclass(frozen=True)
class Route(Generic[In, Out]):
    """One of several strategies for each record; `meta["route"]` says which.

    Args:
        choices: the strategies by name.
        by: the weight of each name, drawn by `ask.rng`; or the field or entry of `meta` that holds the name; or a
            function from the record to it. By default every choice is as likely. A record whose name is none of the
            choices is rejected ("no route").
        mark: the entry of `meta`; give another where routes are nested.
    """

    choices: Mapping[str, Strategy[In, Out]]
    by: Mapping[str, float] | str | Callable[[In], str] | None = None
    mark: str = "route"

    def __post_init__(self) -> None:
        if not self.choices:
            raise ConfigError("Route(choices={}): at least one strategy is needed")
        if isinstance(self.by, Mapping):
            if unknown := self.by.keys() ^ self.choices.keys():
                names = ", ".join(map(repr, sorted(unknown)))
                raise ConfigError(f"Route(by=...): weights and choices must have the same names; only one has {names}")
            if any(not 0 <= weight < float("inf") for weight in self.by.values()) or not any(self.by.values()):
                raise ConfigError(f"Route(by={dict(self.by)}): no weight may be below 0, and one must be above")

    def check(self, record: In) -> None:
        """Let each strategy check itself that the record may go to."""
        if isinstance(self.by, str) and self.by not in record.variables():
            known = ", ".join(record.variables())
            raise ConfigError(f"Route(by={self.by!r}): the record has no such field and no such entry in meta: {known}")
        named = [self._named(record)] if isinstance(self.by, str) or callable(self.by) else list(self.choices)
        for name in named:
            if name in self.choices:
                check(self.choices[name], record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        if isinstance(self.by, str) or callable(self.by):
            name = self._named(record)
            if name not in self.choices:
                known = ", ".join(map(repr, self.choices))
                raise RecordError(f"the record's route is {name!r}; there are {known}", reason="no route")
        else:
            weights = None if self.by is None else [self.by[choice] for choice in self.choices]
            [name] = ask.rng.choices(list(self.choices), weights)
        outputs = await self.choices[name](record, ask) or ()
        return [child(output, record, **{self.mark: name}) for output in outputs]

    def _named(self, record: In) -> str:
        found = self.by(record) if callable(self.by) else record.variables().get(str(self.by))
        return str(found)


@dataclass(frozen=True)
class Repeat(Generic[R]):
    """A strategy on its own output, again and again; `meta["rounds"]` says how often.

    A round that fails ends its loop, and what the round before it gave stands; a first round that fails rejects the
    record.

    Args:
        rounds: how often at most.
        until: a rule that ends the loop of an output that it holds for.
        every: give what all rounds gave, and not only the last ones.
    """

    strategy: Strategy[R, R]
    rounds: int
    until: Callable[[R], bool] | None = None
    every: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"Repeat(rounds={self.rounds}): at least one round is needed")

    def check(self, record: R) -> None:
        """Let the strategy check itself."""
        check(self.strategy, record)

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        given: list[R] = []
        live = await self._round(record, ask, 1)
        for number in range(2, self.rounds + 1):
            chance = ask.rng.getrandbits(64)
            work = [self._later(one, Branch(ask, rng=Random(f"{chance}:{one.id}")), number) for one in live]
            further = await together(work)
            given += [one for one, outputs in zip(live, further, strict=True) if self.every or not outputs]
            live = [output for outputs in further for output in outputs]
        return [*given, *live]

    async def _round(self, record: R, ask: Ask, number: int) -> list[R]:
        return [child(output, record, rounds=number) for output in await self.strategy(record, ask) or ()]

    async def _later(self, record: R, ask: Ask, number: int) -> list[R]:
        if self.until is not None and self.until(record):
            return []
        try:
            return await self._round(record, ask, number)
        except RecordError as error:
            ask.dropped[error.reason] += 1
            return []


@dataclass(frozen=True)
class Ensemble(Generic[In, Out]):
    """A strategy asked of several roles: the outputs of all, each with its role in `meta["role"]`.

    A role that fails is dropped and counted; where all fail, the record is rejected. Chance is the same for all, so
    each sees the same examples and the same context.

    Args:
        roles: who is asked.
        of: the role that the strategy asks by itself, in whose place they are put.

    Reference: Cui et al. 2023, UltraFeedback, arXiv:2310.01377.
    """

    strategy: Strategy[In, Out]
    roles: tuple[str, ...]
    of: str = "teacher"

    def __post_init__(self) -> None:
        if not self.roles or isinstance(self.roles, str) or len(set(self.roles)) < len(self.roles):
            raise ConfigError(f"Ensemble(roles={self.roles!r}): expected a tuple of different roles, at least one")

    def check(self, record: In) -> None:
        """Let the strategy check itself."""
        check(self.strategy, record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        branches = [(role, Branch(ask, roles={self.of: role}, rng=twin(ask.rng))) for role in self.roles]
        given = await survivors(ask, [(role, _children(self.strategy, record, branch)) for role, branch in branches])
        return [child(output, record, role=role) for role, outputs in given for output in outputs]


@dataclass(frozen=True)
class Ordered(Generic[P]):
    """Several strategies answer the same record, and their order is the ranking: no judge is asked.

    Such as a teacher under a good and under a bad affix, or with more and with less knowledge. Each gives a
    demonstration or candidates; the first completion counts. The best has as many points as there are strategies, the
    last has one. One that fails is dropped and counted, and so is a text that a better one gave as well; two must be
    left ("too few completions"). Chance is the same for all, so pools of one size give texts that belong together.

    Args:
        strategies: by name, the best first. The names stand in `meta["sources"]`, in the order of the completions.

    Reference: Yang et al. 2023, RLCD, arXiv:2307.12950; Zhang et al. 2023, KnowPAT, arXiv:2311.06503.
    """

    strategies: Mapping[str, Strategy[P, Demonstration | Candidates]]

    def __post_init__(self) -> None:
        if len(self.strategies) < 2:
            raise ConfigError(f"Ordered() has {len(self.strategies)} strategies; an order needs two")

    def check(self, record: P) -> None:
        """Let each strategy check itself."""
        for strategy in self.strategies.values():
            check(strategy, record)

    async def __call__(self, record: P, ask: Ask) -> Sequence[Ranking]:
        branches = [(name, strategy, Branch(ask, rng=twin(ask.rng))) for name, strategy in self.strategies.items()]
        given = await survivors(ask, [(name, _children(strategy, record, own)) for name, strategy, own in branches])
        texts: dict[str, str] = {}
        for name, outputs in given:
            if not outputs:
                continue
            text = _completion(outputs[0])
            if text in texts:
                ask.dropped[f"{name} same text"] += 1
            else:
                texts[text] = name
        if len(texts) < 2:
            raise RecordError(
                f"of {len(self.strategies)} completions {len(texts)} is left", reason="too few completions"
            )
        points = {name: float(len(self.strategies) - place) for place, name in enumerate(self.strategies)}
        return [
            Ranking(
                parents=(record.id,),
                prompt=record.prompt,
                completions=tuple(texts),
                scores=tuple(points[name] for name in texts.values()),
                meta={**record.carried(), "sources": list(texts.values())},
            )
        ]


async def _children(strategy: Strategy[Any, Out], record: Record, ask: Ask) -> list[Out]:
    return [child(output, record) for output in await strategy(record, ask) or ()]


def _completion(output: object) -> str:
    if isinstance(output, Demonstration):
        return output.completion
    if isinstance(output, Candidates):
        return output.completions[0]
    raise ConfigError(f"Ordered() was given a {type(output).__name__}; expected Demonstrations or Candidates")
