"""Quotas: the only place that drops records because there are enough of their kind.

Invariant: among equals the earlier record stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError
from synthkd.filters.parts import By, kind_of, value_of
from synthkd.record import Record

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter


def first(n: int) -> Filter[Any]:
    """Keep exactly the first `n` records, where there are so many; the others are "more than asked for".

    Raises:
        ConfigError: `n` is below zero.
    """
    if n < 0:
        raise ConfigError(f"first({n!r}): expected a number of records, at least 0.")
    return _First(n)


def quota(key: By, n: int | Mapping[Any, int]) -> Filter[Any]:
    """Keep at most so many records of each kind, in the order in which they come; then the "quota is full".

    Args:
        key: The kind: the name of a field or of an entry of `meta`, or a function from the record.
        n: How many of each kind; or how many of each by its value, and none of others, which have "no quota".

    Raises:
        ConfigError: A number is below zero.
        DataError: While filtering, a record that has neither a field nor an entry of that name.
    """
    numbers = n.values() if isinstance(n, Mapping) else (n,)
    if any(number < 0 for number in numbers):
        raise ConfigError(f"quota({key!r}, {n!r}): expected numbers of records, at least 0.")
    if isinstance(n, Mapping):
        return _Quota(key, None, {kind_of(value): number for value, number in n.items()})
    return _Quota(key, n, {})


def balance(key: By, times: float = 1.0) -> Filter[Any]:
    """Keep as many records of each kind as there are of the rarest; the others are "too many of a kind".

    It sees all records before it answers, and holds their kinds.

    Args:
        key: The kind; see `quota`.
        times: How many times the rarest there may be of the others, at least 1.

    Raises:
        ConfigError: `times` is below 1.
        DataError: As for `quota`.
    """
    if not times >= 1:
        raise ConfigError(f"balance({key!r}, times={times!r}): expected at least 1, times the rarest kind.")
    return _Balance(key, times)


@dataclass(frozen=True)
class _First:
    n: int

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        for number, _ in enumerate(records):
            yield None if number < self.n else "more than asked for"


@dataclass(frozen=True)
class _Quota:
    key: By
    n: int | None
    by_value: dict[str, int] = field(hash=False)

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        taken: Counter[str] = Counter()
        for record in records:
            kind = kind_of(value_of(record, self.key, "quota"))
            most = self.n if self.n is not None else self.by_value.get(kind)
            if most is None:
                yield "no quota"
            elif taken[kind] >= most:
                yield "quota is full"
            else:
                taken[kind] += 1
                yield None


@dataclass(frozen=True)
class _Balance:
    key: By
    times: float

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        numbers: dict[str, int] = {}
        kinds = [numbers.setdefault(kind_of(value_of(record, self.key, "balance")), len(numbers)) for record in records]
        counts = Counter(kinds)
        most = int(self.times * min(counts.values(), default=0) + 1e-9)
        taken: Counter[int] = Counter()
        for kind in kinds:
            taken[kind] += 1
            yield None if taken[kind] <= most else "too many of a kind"
