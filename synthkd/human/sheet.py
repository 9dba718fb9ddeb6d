"""A gate's files: the only place that knows how rows and decisions are written, and what spreadsheets do to them.

A spreadsheet may save with semicolons or tabs, with or without a byte order mark, and with columns of the person's own;
all of that is read, and kept. Invariant: rows are added at the end of a file, in one write that is on disk before it
returns.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import orjson
from filelock import FileLock

from synthkd.errors import DataError, RunFolderError

OWN = ("id", "decision", "comment", "edit")
"""The columns that a gate reads."""
_MARK = b"\xef\xbb\xbf"
"""Without it spreadsheets take UTF-8 for something else."""
_CELL = 32_000
"""Characters of a cell that spreadsheets keep."""
_LONGEST = 1 << 30
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would run as a formula."""


class Shown:
    """`rows.jsonl`: every row that was ever put before the person, whole.

    Raises:
        DataError: a line of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: set[str] = set()
        """Of all rows."""
        self._new: list[bytes] = []
        self._end = 0
        if path.exists():
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.endswith(b"\n"):  # else a process was killed while it wrote this: it is written again
                        self.ids.add(self._id(line, number))
                        self._end += len(line)

    def _id(self, line: bytes, number: int) -> str:
        try:
            return str(orjson.loads(line)["id"])
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{self.path}, line {number}: is no row as it was written here; take it out, and the run writes it anew"
            ) from None

    def add(self, id: str, row: Mapping[str, str]) -> None:
        """Take in a row, to be written by `flush`."""
        self.ids.add(id)
        self._new.append(orjson.dumps({"id": id, **row}) + b"\n")

    def flush(self) -> None:
        """Write what was added."""
        if self._new:
            _add(self.path, b"".join(self._new), self._end)
            self._end += sum(map(len, self._new))
            self._new.clear()


def read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a decisions file, each with the number of its line; none where there is no file.

    Raises:
        DataError: it is no UTF-8, a column is missing, quotes do not close, or a row has too many cells.
    """
    if not path.exists():
        return []
    body = path.read_bytes()
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: is no UTF-8; save it as 'CSV UTF-8'") from None
    if not text.strip():
        return []
    delimiter, header = _header(path, text)
    found: list[tuple[int, dict[str, str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_LONGEST)
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            if line == 1 or not any(cell.strip() for cell in cells):
                continue
            if any(cells[len(header) :]):
                raise DataError(
                    f"{path}, line {line}: has {len(cells)} cells for {len(header)} columns; is a quote missing?"
                )
            cells += [""] * (len(header) - len(cells))
            found.append((line, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}, line {last + 1}: {error}; close its quotes, or take the row out") from None
    finally:
        csv.field_size_limit(limit)
    return found


def append(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Add undecided rows, by their ids, in the form that the file has."""
    cells = [{"id": id, **{name: _cell(text) for name, text in row.items()}} for id, row in rows.items()]
    with _alone(path):
        body = path.read_bytes() if path.exists() else b""
        if not body.strip():
            columns = list(dict.fromkeys([*OWN, *(name for row in cells for name in row)]))
            _add(path, _MARK + _csv([_names(columns), *cells], columns, ","), 0)
            return
        delimiter, header = _header(path, body.decode("utf-8-sig"))
        _add(path, (b"" if body.endswith(b"\n") else b"\r\n") + _csv(cells, header, delimiter))


def replace(path: Path, id: str, cells: Mapping[str, str]) -> None:
    """Write some cells of one row; the file is written aside and renamed.

    Raises:
        DataError: no row has this id, or the file cannot be read.
    """
    with _alone(path):
        rows = [row for _, row in read(path)]
        mine = next((row for row in rows if row["id"].strip() == id), None)
        if mine is None:
            raise DataError(f"{path}: no row has the id {id!r}")
        mine.update(cells)
        delimiter, header = _header(path, path.read_text(encoding="utf-8-sig"))
        aside = path.with_name(f".{path.name}.writing")
        _add(aside, _MARK + _csv([_names(header), *rows], header, delimiter), 0)
        os.replace(aside, path)


def _alone(path: Path) -> FileLock:
    """So that a run that adds rows and a page that writes decisions do not undo each other's work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=30)


def _names(columns: Sequence[str]) -> dict[str, str]:
    return dict(zip(columns, columns, strict=True))


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    """The delimiter of a file and its columns."""
    first = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in (",", ";", "\t"):
        columns = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if set(OWN) <= set(columns):
            return delimiter, columns
    raise DataError(f"{path}, line 1: expected the columns {', '.join(OWN)} among others, and found {first[:100]!r}")


def _csv(rows: Iterable[Mapping[str, str]], columns: Sequence[str], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", delimiter=delimiter)
    writer.writerows(rows)
    return text.getvalue().encode()


def _cell(text: str) -> str:
    """A text as a spreadsheet shows it and does not run it."""
    if len(text) > _CELL:
        text = f"{text[:_CELL]} [... {len(text) - _CELL} more characters: see rows.jsonl]"
    return f"'{text}" if text.startswith(_FORMULA) else text


def _add(path: Path, body: bytes, end: int | None = None) -> None:
    """Write at the end of a file, or at the end of what counts of it, and see it on disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if end is not None:
                file.truncate(end)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror}. Is it open in another program?") from error
