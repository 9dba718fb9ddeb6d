"""A stage's rows on disk, and its ledger: the only place that writes and reads what a map or filter gave.

Invariant, checked when a stage is finished: each input is the parent of at least one output, or stands in the rejects
exactly once. A row and its line in the ledger are one transaction.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload

import orjson

from synthkd.database import Database
from synthkd.errors import LedgerError, RecordError
from synthkd.record import Record, in_writing
from synthkd.text import storable

R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)

_LEDGER = "INSERT OR REPLACE INTO ledger VALUES (?,?,?,?,?,?,?,?)"
_ROW = "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?,?,?)"
_FEWER = "DELETE FROM rows WHERE stage = ? AND position = ? AND k >= ?"
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


@dataclass(slots=True)
class _Input:
    """What stands on disk for one input."""

    line: tuple[Any, ...] = ()
    """Its line in the ledger, without stage and position."""
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, body and sources of its rows."""


_NEW = _Input()


class _Earlier:
    """What an earlier process left of a stage, read in step with the inputs and given once."""

    def __init__(self, database: Database, number: int) -> None:
        self._database = database
        self._number = number
        self._inputs: dict[int, _Input] = {}
        self._end = 0

    def pop(self, position: int) -> _Input:
        while self._end <= position:
            self._read()
        return self._inputs.pop(position, _NEW)

    def _read(self) -> None:
        place = (self._number, self._end, self._end + _CHUNK)
        between = "WHERE stage = ? AND position >= ? AND position < ?"
        self._end += _CHUNK
        for where, *line in self._database.read(
            f"SELECT position, id, outputs, reason, detail, body, dropped FROM ledger {between}", place
        ):
            self._inputs[where] = _Input(tuple(line))
        for where, *row in self._database.read(
            f"SELECT position, kind, body, sources FROM rows {between} ORDER BY position, k", place
        ):
            self._inputs.setdefault(where, _Input()).rows.append(tuple(row))


class StageWriter:
    """Writes one stage, on the run's loop."""

    def __init__(self, database: Database, number: int, name: str, strategy: str, source: str) -> None:
        self._database = database
        self.number = number
        self.name = name
        self.kinds: dict[str, type[Record]] = {}
        self.inputs = 0
        self._line = (number, name, strategy, source)
        self._earlier: _Earlier | None = None

    def begin(self) -> None:
        """Open the stage, and clear away the later ones that an earlier process has left.

        What it left of this very stage stays, to be compared with: in a run that replays another, nothing changes, and
        what does not change is not written again.
        """
        known = self._database.read("SELECT number, name, strategy, input FROM stages WHERE number = ?", self._line[:1])
        self._earlier = _Earlier(self._database, self.number) if known == [self._line] else None
        kept = self.number if self._earlier else self.number - 1
        for table, column in (("rows", "stage"), ("ledger", "stage"), ("stages", "number")):
            self._database.put(f"DELETE FROM {table} WHERE {column} > ?", (kept,))
        if self._earlier:
            self._database.put("UPDATE stages SET complete = 0, seconds = NULL WHERE number = ?", (self.number,))
        else:
            self._database.put("INSERT INTO stages (number, name, strategy, input) VALUES (?,?,?,?)", self._line)

    async def breathe(self) -> None:
        """Give others a turn, and let the disk catch up where much waits for it."""
        await (self._database.committed() if self._database.crowded else asyncio.sleep(0))

    def accept(
        self,
        position: int,
        record: Record,
        outputs: Sequence[Record],
        sources: tuple[int, ...],
        dropped: Counter[str],
    ) -> None:
        """Keep what an input gave; an empty sequence is the reject `no output`."""
        if not outputs:
            self.reject(position, record, RecordError("the strategy gave nothing back", reason="no output"), dropped)
            return
        numbers = ",".join(map(str, sources)) if len(sources) != 1 else str(sources[0])
        try:
            rows = [self._row(record, output) for output in outputs]
        except RecordError as error:  # before anything of this input is put
            self.reject(position, record, error, dropped)
            return
        earlier = self._before(position)
        for k, (id, kind, body) in enumerate(rows):
            if k >= len(earlier.rows) or earlier.rows[k] != (kind, body, numbers):
                self._database.put(_ROW, (self.number, position, k, id, kind, body, numbers))
        lost = orjson.dumps(dropped).decode() if dropped else None
        self._line_in_ledger(position, earlier, (record.id, len(outputs), None, None, None, lost))

    def reject(self, position: int, record: Record, error: RecordError, dropped: Counter[str]) -> None:
        """Keep an input that gave nothing, with the reason."""
        lost = orjson.dumps(dropped).decode() if dropped else None
        id, body = in_writing(record)
        line = (id, 0, storable(error.reason), storable(str(error)), body, lost)
        self._line_in_ledger(position, self._before(position), line)

    def _row(self, record: Record, output: Record) -> tuple[str, str, str]:
        """Id, kind and body of a row."""
        # A filter passes its inputs on; a strategy's outputs are children of the record it was given.
        if output is not record and record.id not in output.parents:
            output = output.model_copy(update={"parents": (record.id, *output.parents)})
        return output.id, self._kind(type(output)), output.model_dump_json(exclude_defaults=True)

    def _before(self, position: int) -> _Input:
        return self._earlier.pop(position) if self._earlier else _NEW

    def _line_in_ledger(self, position: int, earlier: _Input, line: tuple[Any, ...]) -> None:
        self.inputs += 1
        if line != earlier.line:
            self._database.put(_LEDGER, (self.number, position, *line))
        if line[1] < len(earlier.rows):
            self._database.put(_FEWER, (self.number, position, line[1]))

    def _kind(self, kind: type[Record]) -> str:
        name = f"{kind.__module__}:{kind.__qualname__}"
        self.kinds.setdefault(name, kind)
        return name

    async def finish(self, seconds: float) -> None:
        """Mark the stage complete, once it is on disk and its ledger adds up.

        Raises:
            LedgerError: an input has neither an output nor a place in the rejects, or both.
        """
        if self._earlier:  # it may have had more inputs
            for table in ("rows", "ledger"):
                sql = f"DELETE FROM {table} WHERE stage = ? AND position >= ?"
                self._database.put(sql, (self.number, self.inputs))
        self._database.put("UPDATE stages SET complete = 1, seconds = ? WHERE number = ?", (seconds, self.number))
        await self._database.committed()
        wrong = self._database.read(
            "SELECT position, id FROM ledger l WHERE stage = ? AND"
            " (SELECT COUNT(*) FROM rows r WHERE r.stage = l.stage AND r.position = l.position) != outputs"
            " OR stage = ? AND (outputs = 0) != (reason IS NOT NULL) LIMIT 3",
            (self.number, self.number),
        )
        lines = self._database.read("SELECT COUNT(*) FROM ledger WHERE stage = ?", (self.number,))[0][0]
        if wrong or lines != self.inputs:
            raise LedgerError(
                f"stage {self.name}: {self.inputs} records came in and {lines} stand in the ledger; "
                f"lines that do not add up: {wrong or 'none'}. This is a bug in synthkd: please report it with run.db."
            )
