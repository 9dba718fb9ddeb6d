"""Sample weights and soft labels: the only place that says how much a record, or each of its classes, counts.

Invariant: a weight is a number from 0 up, and shares add up to 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.filters.parts import By, kind_of, name_of, value_of
from synthkd.record import Labelled, Record


@dataclass(frozen=True)
class Weigh:
    """Records with a weight in training: a value that they have, or one for each kind.

    Args:
        by: a number, or a kind: a field, an entry of `meta`, or a function of the record.
        weights: the weight of each kind; by default the value itself is the weight.
        default: the weight of other kinds, and of records whose value is empty; without it these are rejected as
            "no weight".

    Reference: Wang et al. 2023, OpenChat, arXiv:2309.11235; Gao et al. 2022, SunGen, arXiv:2205.12679.
    """

    by: By
    weights: Mapping[Any, float] | None = field(default=None, hash=False)
    default: float | None = None

    def __post_init__(self) -> None:
        for weight in (*(self.weights or {}).values(), *(() if self.default is None else (self.default,))):
            if not _fit(weight):
                raise ConfigError(f"Weigh(...): the weight {weight!r} makes no sense; expected a number from 0 up")

    def check(self, record: Record) -> None:
        """Refuse records that have no weight."""
        if "weight" not in type(record).model_fields:
            raise ConfigError(f"Weigh(...): a {type(record).__name__} has no weight; Demonstration and Labelled have")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Any]:
        value = value_of(record, self.by, "Weigh")
        weight = value if self.weights is None else self._of_kind.get(kind_of(value))
        weight = self.default if weight is None else weight
        if weight is None or not _fit(weight):
            raise RecordError(f"{name_of(self.by)} is {value!r}, which gives no weight", reason="no weight")
        return [record.model_copy(update={"parents": (record.id,), "weight": float(weight)})]

    @property
    def _of_kind(self) -> dict[str, float]:
        return {kind_of(kind): weight for kind, weight in (self.weights or {}).items()}


def shares(votes: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Votes, or numbers by class, as a soft label: shares that add up to 1, the greatest first.

    Raises:
        RecordError: there are none, or a number is below 0 ("no votes").
    """
    counts = dict(votes) if isinstance(votes, Mapping) else dict(Counter(votes))
    whole = math.fsum(counts.values())
    if not all(map(_fit, counts.values())) or not 0 < whole < math.inf:
        raise RecordError(f"{counts} are no votes to take shares of", reason="no votes")
    return {name: count / whole for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def soften(records: Iterable[Labelled]) -> Labelled:
    """Several labels of one text as one record with a soft label: their mean, each by its record's weight.

    A record without a soft label counts as sure of its label. The label is the class with the greatest share.

    Raises:
        RecordError: no records ("no votes"), or records of different texts ("different texts").
    """
    several = list(records)
    if len({(record.text, record.text_pair) for record in several}) > 1:
        raise RecordError("the records to be softened are not of one text", reason="different texts")
    total: Counter[str] = Counter()
    for record in several:
        for name, share in shares(record.soft_label or [record.label]).items():
            total[name] += share * record.weight  # type: ignore[assignment]
    found = shares(total)
    return Labelled(
        parents=tuple(record.id for record in several),
        text=several[0].text,
        text_pair=several[0].text_pair,
        label=next(iter(found)),
        soft_label=found,
        meta=several[0].meta,
    )


def _fit(weight: object) -> bool:
    return isinstance(weight, int | float) and 0 <= weight < math.inf
