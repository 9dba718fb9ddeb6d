"""Reading records: the only place where rows from outside are checked, and read again when they are used.

Invariant: every row was a valid record once before `read` returned, so no teacher is paid for a file that breaks at its
last line; and no more than a batch of rows is in memory (a `.json` array excepted, which is held as raw rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import Generic, TypeVar, overload

from synthkd.data.opening import open_source
from synthkd.data.shapes import Shape
from synthkd.data.sources import Source, Table
from synthkd.errors import ConfigError, DataError
from synthkd.record import Record

R = TypeVar("R", bound=Record)


class Records(Sequence[R], Generic[R]):
    """Records that lie in a file, folder or dataset, and are read from there each time they are used.

    Walking it streams; an index seeks (in a gzipped file by unpacking from the start); a slice is another view.
    """

    def __init__(self, source: Source, shape: Shape[R], picked: range) -> None:
        self._source, self._shape, self._picked = source, shape, picked

    @property
    def source(self) -> str:
        """Where the rows lie: a path, or a dataset's id."""
        return self._source.name

    def __len__(self) -> int:
        return len(self._picked)

    def __iter__(self) -> Iterator[R]:
        if self._picked.step != 1:
            yield from (self[i] for i in range(len(self)))
        elif self._picked:
            first = self._picked.start
            rows = islice(self._source.since(first), len(self._picked))
            for number, row in enumerate(rows, start=first + 1):
                yield self._shape.record(row, f"{self.source}, row {number}")

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Records[R]: ...
    def __getitem__(self, index: int | slice) -> R | Records[R]:
        if isinstance(index, slice):
            return Records(self._source, self._shape, self._picked[index])
        row = self._picked[index]
        return self._shape.record(next(self._source.since(row)), f"{self.source}, row {row + 1}")

    def __repr__(self) -> str:
        return f"<{len(self)} {self._shape.kind.__name__} records of {self.source}>"


def read(
    source: str | PathLike[str] | Table,
    kind: type[R],
    *,
    fields: Mapping[str, str] | None = None,
    limit: int | None = None,
    split: str = "train",
) -> Records[R]:
    """Records of one kind from a file, a folder or a dataset, all of them checked before it returns.

    A field is read from the column of its name. Columns that no field asks for are left out. A list of messages in
    `prompt`, `completion`, `chosen` or `rejected` is understood as TRL writes it; a `messages` column (OpenAI's or
    ShareGPT's form) gives the prompt, up to the last user turn, and a demonstration's completion. A null, which is also
    what an empty CSV cell is, counts as absent where the field does not take it. JSON text becomes the value where a
    field takes no text.

    Args:
        source: `.jsonl`, `.json` (an array, or an object a line), `.csv`, each also as `.gz`; `.parquet`; a folder of
            Parquet, such as `write` makes, or one saved by `datasets`; the id of a dataset on the Hub, the only case
            that needs the network; or rows in memory: a list of dicts, a `datasets.Dataset`.
        kind: The kind of record that each row becomes.
        fields: Field to column, where the names differ: `{"prompt": "question"}`. `meta.NAME` puts a column into the
            record's `meta`, where filters and judges find it: `{"meta.answer": "answer"}`.
        limit: Read, and check, no more than this many rows.
        split: Which split of a folder or dataset that has several.

    Raises:
        DataError: No such source, a damaged file, no rows, or a row that is not a `kind`; with place, field and cure.
        ConfigError: An argument makes no sense.
    """
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        raise ConfigError(f"data.read needs a kind of record, such as Instruction, as second argument; got {kind!r}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, or None for all rows; got {limit}.")
    shape = Shape(kind, dict(fields or {}))
    rows = open_source(source, split)
    count = 0
    for place, row in islice(rows.scan(), limit):
        shape.record(row, f"{rows.name}, {place}")
        count += 1
    if not count:
        raise DataError(f"{rows.name} holds no rows; expected at least one {kind.__name__}.")
    return Records(rows, shape, range(count))
