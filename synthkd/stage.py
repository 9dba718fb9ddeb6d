"""A stage as it is read: the only place that gives back what a map or filter left on disk, and its ledger.

Invariant: rows are read a few hundred at a time, so a stage of any size takes no more memory than a small one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import orjson

from synthkd.database import Database
from synthkd.record import Record

R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of a stage's inputs."""

    records_in: int
    records_out: int
    rejected: dict[str, int]
    """Rejected inputs by reason."""
    dropped: dict[str, int]
    """Draws lost while others of the same request succeeded, by reason; no input is lost by them."""

    def __str__(self) -> str:
        parts = [f"{self.records_in} in", f"{self.records_out} out"]
        if self.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
            parts.append(f"{sum(self.rejected.values())} rejected ({reasons})")
        if self.dropped:
            parts.append("draws dropped: " + ", ".join(f"{n} {reason}" for reason, n in sorted(self.dropped.items())))
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Reject:
    """An input that gave nothing, and why."""

    id: str
    reason: str
    """The word under which the ledger counts it."""
    detail: str
    """The whole message."""
    body: dict[str, Any]
    """The input's fields."""


class Stage(Sequence[R_co], Generic[R_co]):
    """The typed result of one map or filter: a sequence of records on disk, in input order, with a ledger."""

    def __init__(self, database: Database, number: int, name: str, kinds: dict[str, type[Record]]) -> None:
        self.database = database
        """The file of the run that it belongs to."""
        self._kinds = kinds
        self.number = number
        self.name = name
        self.shortfall = ""
        """Why `run.grow` ended before its goal; empty where it did not."""

    def __repr__(self) -> str:
        return f"Stage({self.name!r}: {self.ledger})"

    def __len__(self) -> int:
        return int(self.database.read("SELECT COUNT(*) FROM rows WHERE stage = ?", (self.number,))[0][0])

    @overload
    def __getitem__(self, index: int) -> R_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R_co]: ...
    def __getitem__(self, index: int | slice) -> R_co | Sequence[R_co]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        rows = self.database.read(
            "SELECT kind, body, sources FROM rows WHERE stage = ? ORDER BY position, k LIMIT 1 OFFSET ?",
            (self.number, place),
        )
        if place < 0 or not rows:
            raise IndexError(f"stage {self.name} has {len(self)} rows, no row {index}")
        return self._revived(*rows[0])[0]

    def __iter__(self) -> Iterator[R_co]:
        return (record for record, _ in self.items())

    def items(self, adopted: Callable[[int], int] | None = None) -> Iterator[tuple[R_co, tuple[int, ...]]]:
        """Records with the numbers of the provenances that went into them, or with what `adopted` makes of these."""
        after = (-1, -1)
        while True:
            rows = self.database.read(
                "SELECT position, k, kind, body, sources FROM rows WHERE stage = ? AND (position, k) > (?, ?)"
                " ORDER BY position, k LIMIT ?",
                (self.number, *after, _CHUNK),
            )
            for _, _, kind, body, sources in rows:
                record, numbers = self._revived(kind, body, sources)
                yield record, tuple(sorted(map(adopted, numbers))) if adopted else numbers
            if len(rows) < _CHUNK:
                return
            after = (rows[-1][0], rows[-1][1])

    @property
    def ledger(self) -> Ledger:
        """Counts of what came in, what came out, and why the rest did not."""
        total = self.database.read(
            "SELECT COUNT(*), COALESCE(SUM(outputs), 0) FROM ledger WHERE stage = ?", (self.number,)
        )[0]
        reasons = self.database.read(
            "SELECT reason, COUNT(*) FROM ledger WHERE stage = ? AND reason IS NOT NULL GROUP BY reason", (self.number,)
        )
        dropped: Counter[str] = Counter()
        for (text,) in self.database.read(
            "SELECT dropped FROM ledger WHERE stage = ? AND dropped IS NOT NULL", (self.number,)
        ):
            dropped.update(orjson.loads(text))
        return Ledger(total[0], total[1], dict(reasons), dict(dropped))

    @property
    def rejects(self) -> Iterator[Reject]:
        """The inputs that gave nothing, with reason and message, in input order."""
        after = -1
        while True:
            rows = self.database.read(
                "SELECT position, id, reason, detail, body FROM ledger WHERE stage = ? AND reason IS NOT NULL"
                " AND position > ? ORDER BY position LIMIT ?",
                (self.number, after, _CHUNK),
            )
            for _, id, reason, detail, body in rows:
                yield Reject(id, reason, detail, orjson.loads(body))
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def _revived(self, kind: str, body: str, sources: str) -> tuple[R_co, tuple[int, ...]]:
        record = self._kinds[kind].model_validate_json(body)
        numbers = tuple(int(number) for number in sources.split(",")) if sources else ()
        return record, numbers  # type: ignore[return-value]
