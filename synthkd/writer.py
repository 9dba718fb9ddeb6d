"""A stage as it is written: the only place that puts rows and ledger lines on disk.

Invariant, checked when a stage is finished: each input is the parent of at least one output, or stands in the rejects
exactly once. A row and its line in the ledger are one transaction.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from synthkd.database import Database
from synthkd.errors import LedgerError, RecordError
from synthkd.record import Record, in_writing
from synthkd.text import storable

_LEDGER = "INSERT OR REPLACE INTO ledger VALUES (?,?,?,?,?,?,?,?)"
_ROW = "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?,?,?)"
_FEWER = "DELETE FROM rows WHERE stage = ? AND position = ? AND k >= ?"
_CHUNK = 500


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

    def begin(self, last: int | None = None) -> None:
        """Open the stage, and clear away the later ones that an earlier process has left.

        Args:
            last: the number of the last stage that is made together with this one.

        What it left of this very stage stays, to be compared with: in a run that replays another, nothing changes, and
        what does not change is not written again.
        """
        known = self._database.read("SELECT number, name, strategy, input FROM stages WHERE number = ?", self._line[:1])
        self._earlier = _Earlier(self._database, self.number) if known == [self._line] else None
        own = -1 if self._earlier else self.number
        for table, column in (("rows", "stage"), ("ledger", "stage"), ("stages", "number")):
            self._database.put(f"DELETE FROM {table} WHERE {column} > ? OR {column} = ?", (last or self.number, own))
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
