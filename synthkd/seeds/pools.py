"""Pools: the only place that draws from lists of topics, personas, entities, principles, tools or documents.

Invariant: a cross product is never built. What is drawn comes in an order that the seed alone decides, and no
combination comes twice.
"""

from __future__ import annotations

import json
import math
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice, product
from random import Random
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from synthkd.errors import ConfigError
from synthkd.ordering import plain
from synthkd.record import Record
from synthkd.seeds.shuffling import shuffled

R = TypeVar("R", bound=Record)

Names = Iterable[Any] | Mapping[str, Iterable[Any]]
"""What one pool holds: values (JSON, or records), or such values by the name of the source that they come from."""
Weights = Mapping[str, Mapping[Any, float]]

_MOST_CELLS = 1_000_000
_LINEAGE = {"parents", "meta"}


class Seed(Record):
    """What was drawn from pools: a value of each, under the pool's name in `meta`, where templates find it."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Values of one pool that are equally likely."""

    values: list[Any]
    weight: float
    """Of all of them together."""
    source: str | None


@dataclass(slots=True)
class _Cell:
    """One group of each pool: combinations that are equally likely."""

    groups: tuple[_Group, ...]
    weight: float
    walk: Iterator[int] | None = None
    spent: bool = False

    @property
    def size(self) -> int:
        return math.prod(len(group.values) for group in self.groups)

    def next(self, seed: str) -> tuple[tuple[str | None, Any], ...] | None:
        """Source and value of each pool, or None when all have been drawn."""
        self.walk = self.walk or shuffled(self.size, seed)
        if (place := next(self.walk, None)) is None:
            return None
        found = []
        for group in self.groups:
            place, index = divmod(place, len(group.values))
            found.append((group.source, group.values[index]))
        return tuple(found)


@overload
def pool(
    *, n: int | None = None, each: str | None = None, weights: Weights | None = None, seed: int = 0, **names: Names
) -> Iterator[Seed]: ...
@overload
def pool(
    kind: type[R],
    /,
    *,
    n: int | None = None,
    each: str | None = None,
    weights: Weights | None = None,
    seed: int = 0,
    **names: Names,
) -> Iterator[R]: ...
def pool(
    kind: type[Any] = Seed,
    /,
    *,
    n: int | None = None,
    each: str | None = None,
    weights: Weights | None = None,
    seed: int = 0,
    **names: Names,
) -> Iterator[Any]:
    """Draw from the cross product of named pools, without repetition, in an order that the seed decides.

    The product is walked and not built: 10^9 combinations cost no more than the lists themselves.

    Args:
        kind: the record that is made. A pool with the name of one of its fields fills it; the others go into `meta`.
        n: how many to draw; by default all there are.
        each: the name of a pool of whose values each is drawn `n` times, by turns.
        weights: by pool, how likely its values are (those not named have 1; 0 is never), or its sources where it is a
            mapping of sources (by default each source is as likely as any other, however much it holds). When what is
            likely has all been drawn, the rest follows.
        seed: what the order derives from.
        names: the pools. A value that is a record offers its own fields and `meta`, and becomes a parent. Of sources,
            `meta` has the name as `<pool>_source`. What stands in a pool twice counts once.

    Raises:
        ConfigError: a pool is empty or a text, a weight is for nobody, the kind does not take the names, or there are
            fewer combinations than wanted.
    """
    for name in (weights or {}).keys() - names.keys():
        raise ConfigError(f"pool(weights=...): there is no pool {name!r}; there are {_listed(names)}")
    pools = {name: _groups(name, given, (weights or {}).get(name, {})) for name, given in names.items()}
    if not pools:
        raise ConfigError("pool() was given no pool; give it lists by name, such as topic=[...]")
    made = _Maker(kind, tuple(pools))
    made(tuple((groups[0].source, groups[0].values[0]) for groups in pools.values()))
    if each is None:
        _enough(pools, n, "")
        return map(made, islice(_drawn(list(pools.values()), str(seed)), n))
    if each not in pools or n is None or each in (weights or {}):
        raise ConfigError(
            f"pool(each={each!r}, n={n}): expected the name of a pool without weights ({_listed(names)}), and n "
            "for how many of each of its values"
        )
    _enough({name: groups for name, groups in pools.items() if name != each}, n, f" for each {each}")
    return map(made, _by_turns(pools, each, n, str(seed)))


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes records of what was drawn."""

    kind: type[Record]
    names: tuple[str, ...]

    def __call__(self, drawn: tuple[tuple[str | None, Any], ...]) -> Record:
        offered: dict[str, Any] = {}
        parents = []
        for name, (source, value) in zip(self.names, drawn, strict=True):
            if isinstance(value, Record):
                parents.append(value.id)
                offered |= {**value.meta, **plain(value, exclude=_LINEAGE, exclude_none=True)}
            else:
                offered[name] = value
            if source is not None:
                offered[f"{name}_source"] = source
        fields = {name: offered.pop(name) for name in self.kind.model_fields.keys() - _LINEAGE if name in offered}
        try:
            return self.kind(parents=tuple(parents), meta=offered, **fields)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            where = ".".join(map(str, found["loc"]))
            raise ConfigError(
                f"pool(...) cannot make a {self.kind.__name__} of {_listed(self.names)}: {where}: {found['msg']}. "
                "Give a pool for each field that it needs, of values of the field's type."
            ) from None


def _drawn(pools: list[list[_Group]], seed: str) -> Iterator[tuple[tuple[str | None, Any], ...]]:
    """Combinations; a cell is drawn by its weight as long as there is something left in it."""
    cells = [_Cell(groups, math.prod(group.weight for group in groups)) for groups in product(*pools)]
    numbers = {id(cell): number for number, cell in enumerate(cells)}
    rng = Random(seed)
    while cells:
        bounds = list(accumulate(cell.weight for cell in cells))
        spent = 0.0
        while spent < bounds[-1] / 2:  # then it is time to look only at those that have some left
            cell = cells[min(bisect(bounds, rng.random() * bounds[-1]), len(cells) - 1)]
            found = cell.next(f"{seed}:{numbers[id(cell)]}")
            if found is not None:
                yield found
            elif not cell.spent:
                cell.spent = True
                spent += cell.weight
        cells = [cell for cell in cells if not cell.spent]


def _by_turns(
    pools: dict[str, list[_Group]], each: str, n: int, seed: str
) -> Iterator[tuple[tuple[str | None, Any], ...]]:
    """`n` combinations for every value of one pool, a value at a time."""
    place = list(pools).index(each)
    values = [(group.source, value) for group in pools[each] for value in group.values]
    others = [groups for name, groups in pools.items() if name != each]
    walks = [_drawn(others, f"{seed}:{number}") for number in range(len(values))]
    for turn in range(n):
        for number in shuffled(len(values), f"{seed}:turn {turn}"):
            rest = next(walks[number])
            yield (*rest[:place], values[number], *rest[place:])


def _groups(name: str, given: Names, weights: Mapping[Any, float]) -> list[_Group]:
    """One pool as groups of equally likely values."""
    if name in _LINEAGE:
        raise ConfigError(f"pool({name}=...): {name!r} is what every record has; give the pool another name")
    for key, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ConfigError(f"pool(weights={{{name!r}: {{{key!r}: {weight}}}}}): expected a finite number from 0 on")
    seen: set[str] = set()
    if isinstance(given, Mapping):
        sources = {source: _values(name, values, seen) for source, values in given.items()}
        unknown = weights.keys() - sources.keys()
        groups = [_Group(values, weights.get(source, 1), source) for source, values in sources.items()]
    else:
        alike: dict[float, list[Any]] = {}
        marks = {_mark(name, key): weight for key, weight in weights.items()}
        for value in _values(name, given, seen):
            alike.setdefault(marks.pop(_mark(name, value), 1), []).append(value)
        unknown = {key for key in weights if _mark(name, key) in marks}
        groups = [_Group(values, weight * len(values), None) for weight, values in alike.items()]
    if unknown:
        raise ConfigError(f"pool(weights=...): the pool {name!r} does not hold {_listed(unknown)}")
    if found := [group for group in groups if group.values and group.weight > 0]:
        return found
    raise ConfigError(f"pool({name}=...) holds nothing that can be drawn; expected at least one value")


def _values(name: str, given: Iterable[Any], seen: set[str]) -> list[Any]:
    if isinstance(given, str | bytes | Record):
        raise ConfigError(f"pool({name}=...) was given one {type(given).__name__}; expected a list of values: [...]")
    fresh = []
    for value in given:
        if (mark := _mark(name, value)) not in seen:
            seen.add(mark)
            fresh.append(value)
    return fresh


def _mark(name: str, value: Any) -> str:
    """What tells one value from another."""
    try:
        return value.id if isinstance(value, Record) else json.dumps(value, sort_keys=True)
    except TypeError:
        raise ConfigError(
            f"pool({name}=...) holds a {type(value).__name__}; expected texts, numbers, lists, mappings, or records"
        ) from None


def _enough(pools: Mapping[str, list[_Group]], n: int | None, per: str) -> None:
    cells = math.prod(len(groups) for groups in pools.values())
    if cells > _MOST_CELLS:
        raise ConfigError(
            f"pool(weights=...): {cells:,} combinations of different weights are more than {_MOST_CELLS:,}; put values "
            "that are equally likely into sources"
        )
    size = math.prod(sum(len(group.values) for group in groups) for groups in pools.values())
    if n is not None and not 0 < n <= size:
        raise ConfigError(f"pool(n={n}): there are {size:,} combinations of {_listed(pools) or 'nothing'}{per}")


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(repr(name) for name in names))
