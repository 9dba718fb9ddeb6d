"""File formats: the only place that knows how raw rows lie in a file, folder or table, and how to find one again.

Invariant: a source is scanned once, which learns where every row begins; after that any row can be reached without
holding the others. A file that changed in between is an error, never a mixture of old and new.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson

from synthkd.errors import DataError

RawRow = Mapping[str, Any]


class Table(Protocol):
    """Rows that can be counted, walked and indexed: a list of dicts, or a `datasets.Dataset`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Source(ABC):
    """Rows of one file, folder or table."""

    def __init__(self, name: str) -> None:
        self.name = name
        """What error messages and provenance call it: a path, or a dataset's id."""

    @abstractmethod
    def scan(self) -> Iterator[tuple[str, Any]]:
        """Every row with its place in the source (`line 3`), learning on the way where it begins."""

    @abstractmethod
    def since(self, index: int) -> Iterator[Any]:
        """Rows from the one at `index` (0-based) on; only rows that `scan` has passed."""


class Listed(Source):
    """Rows of something that is indexed already."""

    def __init__(self, name: str, rows: Table) -> None:
        super().__init__(name)
        self._rows = rows

    def scan(self) -> Iterator[tuple[str, Any]]:
        for number, row in enumerate(self._rows, start=1):
            yield f"row {number}", row

    def since(self, index: int) -> Iterator[Any]:
        if index == 0:  # a Dataset walks faster than it indexes
            yield from self._rows
        else:
            yield from (self._rows[i] for i in range(index, len(self._rows)))


class _Stamped:
    """The size and time of a file when it was scanned."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._now()

    def _now(self) -> tuple[int, int]:
        stat = self._path.stat()
        return stat.st_size, stat.st_mtime_ns

    def check(self) -> None:
        """Raise `DataError` where the file is no longer the one that was scanned."""
        if not self._path.exists() or self._now() != self._stamp:
            raise DataError(f"{self._path} was changed or removed after it was read. Call data.read(...) again.")


class _TextFile(Source):
    """A text file, plain or gzipped, with the byte offset of each of its rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._stamp = _Stamped(path)
        self._offsets = array("Q")  # 8 bytes a row; in a gzipped file, offsets of the text inside

    def _open(self) -> IO[bytes]:
        return open_binary(self._path)

    def scan(self) -> Iterator[tuple[str, Any]]:
        self._offsets = array("Q")
        try:
            with self._open() as file:
                for offset, place, row in self._rows(file):
                    self._offsets.append(offset)
                    yield place, row
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{self.name} is not a complete gzip file ({error}). Fetch or compress it again.") from None

    def since(self, index: int) -> Iterator[Any]:
        self._stamp.check()
        with self._open() as file:
            file.seek(self._offsets[index])
            for _, _, row in self._rows(file, first=False):
                yield row

    @abstractmethod
    def _rows(self, file: IO[bytes], first: bool = True) -> Iterator[tuple[int, str, Any]]:
        """Offset, place and row; `first` says that the file is at its beginning."""


class JsonLines(_TextFile):
    """One JSON object a line; blank lines do not count."""

    def _rows(self, file: IO[bytes], first: bool = True) -> Iterator[tuple[int, str, Any]]:
        offset = file.tell()
        for number, line in enumerate(file, start=1):
            text = line if offset else _without_bom(line)
            if text.strip():
                yield offset, f"line {number}", self._parse(text, number)
            offset += len(line)

    def _parse(self, line: bytes, number: int) -> Any:
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            shown = short(line.decode("utf-8", "replace").strip())
            raise DataError(
                f"{self.name}, line {number}: not JSON ({error.msg}, column {error.colno}): {shown}. "
                "Each line must hold one JSON object; a file that holds one array of objects is called .json."
            ) from None


class Csv(_TextFile):
    """Comma-separated values in UTF-8 with a header line; a quoted cell may span lines; an empty cell is None."""

    _header: list[str]

    def _rows(self, file: IO[bytes], first: bool = True) -> Iterator[tuple[int, str, Any]]:
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # the module's 128 KiB is less than a long chat
        lines = _Decoded(file, self.name, first)
        reader = csv.reader(lines, strict=True)  # strict: else a quote left open swallows the rest of the file
        if first:
            self._header = self._next(reader, lines) or []
            if repeated := {name for name in self._header if self._header.count(name) > 1}:
                raise DataError(f"{self.name}: the header names a column twice: {sorted(repeated)}. Rename one.")
        while True:
            offset, number = lines.offset, lines.number + 1
            cells = self._next(reader, lines)
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(self._header):
                raise DataError(
                    f"{self.name}, line {number}: {len(cells)} cells where the header has {len(self._header)} "
                    f"({', '.join(self._header)}): {short(cells)}. Put quotes around cells that hold a comma."
                )
            yield offset, f"line {number}", {k: c or None for k, c in zip(self._header, cells, strict=True)}

    def _next(self, reader: Iterator[list[str]], lines: _Decoded) -> list[str] | None:
        start = lines.number + 1
        try:
            return next(reader, None)
        except csv.Error as error:
            raise DataError(f"{self.name}, line {start}: not CSV ({error}). Check the quotes of this row.") from None


class _Decoded:
    """Lines of a binary file as text, with the offset and number of what was read so far."""

    def __init__(self, file: IO[bytes], name: str, first: bool) -> None:
        self._file, self._name, self._first = file, name, first
        self.offset = file.tell()
        self.number = 0

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.offset += len(line)
        self.number += 1
        try:
            return (_without_bom(line) if self._first and self.number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{self._name}, line {self.number}: not UTF-8 ({error}). Save the file as UTF-8.") from None


class Parquet(Source):
    """Parquet files, one after the other; reaching a row reads its row group."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        super().__init__(name)
        self._paths = paths
        self._stamps = [_Stamped(path) for path in paths]
        self._groups: list[tuple[int, int]] = []  # (file, row group) ...
        self._starts: list[int] = []  # ... and the number of rows before it

    def scan(self) -> Iterator[tuple[str, Any]]:
        self._groups, self._starts, before = [], [], 0
        for number, path in enumerate(self._paths):
            with self._file(path) as file:
                for group in range(file.num_row_groups):
                    self._groups.append((number, group))
                    self._starts.append(before)
                    before += file.metadata.row_group(group).num_rows
            inside = f"{path.name}, " if len(self._paths) > 1 else ""
            for row_number, row in enumerate(self._walk(path, 0), start=1):
                yield f"{inside}row {row_number}", row

    def since(self, index: int) -> Iterator[Any]:
        for stamp in self._stamps:
            stamp.check()
        at = bisect_right(self._starts, index) - 1
        number, group = self._groups[at]
        yield from islice(self._walk(self._paths[number], group), index - self._starts[at], None)
        for path in self._paths[number + 1 :]:
            yield from self._walk(path, 0)

    def _walk(self, path: Path, group: int) -> Iterator[Any]:
        with self._file(path) as file:
            for batch in file.iter_batches(batch_size=256, row_groups=range(group, file.num_row_groups)):
                yield from batch.to_pylist()

    @staticmethod
    def _file(path: Path) -> Any:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            return ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}. Write or fetch it again.") from None


def json_source(path: Path) -> Source:
    """A `.json` file: one array of objects (held in memory), or one object a line; `DataError` for anything else."""
    try:
        with open_binary(path) as file:
            start = _without_bom(file.readline())
            while start and not start.strip():
                start = file.readline()
            if start.lstrip().startswith(b"{") and _parses(start):
                return JsonLines(path)
            content = orjson.loads(start + file.read() or b"null")
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}).") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}). Fetch or compress it again.") from None
    if content is None:
        content = []
    if not isinstance(content, list):
        found = f"an object with {', '.join(content)}" if isinstance(content, dict) else short(content)
        raise DataError(f"{path} holds {found}; expected an array of objects, or one object a line.")
    return Listed(str(path), content)


def open_binary(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where its name ends in `.gz`."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def short(value: object, limit: int = 80) -> str:
    """A value as an error message shows it: its `repr`, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _without_bom(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf")


def _parses(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
