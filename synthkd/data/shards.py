"""Parquet shards: the only place where the types of columns are found and kept the same over all files of a split.

Invariant: after `finish` all shards have one schema, also where a column of the first was all null, whole numbers, or
messages of text alone: messages of which any in the dataset holds more are all JSON, the feature `Json` of `datasets`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkd.data.turns import COLUMNS, IMAGES, as_json, is_plain
from synthkd.errors import DataError

_SHARD_BYTES = 256 * 2**20  # of Arrow memory; the file is smaller
_TEXT = ("reasoning", "teacher", "prompt_template", "sampling", "meta", "id")
_NUMBERS = ("weight", "score_chosen", "score_rejected")


class Shards:
    """Files `SPLIT-00000-of-00003.parquet` in a folder, filled chunk by chunk."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._writer: Any = None
        self._open_bytes = 0
        self._paths: list[Path] = []
        self.schema: Any = None
        """The Arrow schema that fits all rows so far."""
        self.rows = 0
        self.arrow_bytes = 0
        """Size of the rows in memory."""
        self.file_bytes = 0
        """Size of the files; known after `finish`."""

    def add(self, chunk: Any) -> None:
        """Append an Arrow table as a row group."""
        from pyarrow.parquet import ParquetWriter

        merged = _merge([self.schema, chunk.schema]) if self.schema is not None else chunk.schema
        if self._writer is not None and (merged != self.schema or self._open_bytes >= _SHARD_BYTES):
            self.close()
        self.schema = merged
        if self._writer is None:
            self._paths.append(self._folder / f"{self._split}-{len(self._paths):05}.parquet")
            self._writer = ParquetWriter(self._paths[-1], merged)
            self._open_bytes = 0
        self._writer.write_table(_fit(chunk, merged))
        self.rows += chunk.num_rows
        self.arrow_bytes += chunk.nbytes
        self._open_bytes += chunk.nbytes

    def finish(self) -> None:
        """Close the last shard, rewrite those that were begun with a narrower schema, and give them their names."""
        self.close()
        self.schema = _settled(self.schema)
        for number, path in enumerate(self._paths):
            self._rewrite(path)
            named = path.with_name(f"{self._split}-{number:05}-of-{len(self._paths):05}.parquet")
            path.rename(named)
            self._paths[number] = named
            with named.open("rb") as file:
                os.fsync(file.fileno())
            self.file_bytes += named.stat().st_size

    def close(self) -> None:
        """Close the file that is being written, if any."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _rewrite(self, path: Path) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetFile, ParquetWriter

        with ParquetFile(path) as old:
            if old.schema_arrow.equals(self.schema):
                return
            wider = path.with_suffix(".wider")
            with ParquetWriter(wider, self.schema) as new:
                for group in range(old.num_row_groups):
                    new.write_table(_fit(pyarrow.table(old.read_row_group(group)), self.schema))
        wider.replace(path)


def table(rows: Sequence[Mapping[str, Any]], before: int) -> Any:
    """An Arrow table of a chunk of rows; `before` is the number of rows before it, for error messages."""
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            column = _array(name, values)
            if (usual := _usual(name, column.type)) != column.type:
                column = column.cast(usual)
        except (pyarrow.ArrowException, UnicodeError, OverflowError) as error:
            raise DataError(
                f"Rows {before + 1} to {before + len(rows)}: the column {name!r} cannot be one Arrow column: {error}. "
                "Give its values one type, or write nested ones as JSON text."
            ) from None
        columns[name] = column
    found = pyarrow.table(columns)
    return found.cast(_marked(found.schema))


def _array(name: str, values: Sequence[Any]) -> Any:
    """A column; one of pictures, or of messages that are more than text, has its type from its name."""
    import pyarrow

    present = [value for value in values if value is not None]
    if name == IMAGES and all(isinstance(one, Mapping) for value in present for one in value):
        return pyarrow.array([value or [] for value in values], _pictures())  # TRL wants a list in every row
    listed = name in COLUMNS and all(isinstance(value, list) for value in present)
    if listed and not all(is_plain(turn) for value in present for turn in value):
        return _json(values)
    return pyarrow.array(values)


def _json(values: Sequence[Any]) -> Any:
    import pyarrow

    text = [None if value is None else [as_json(turn) for turn in value] for value in values]
    return pyarrow.array(text, pyarrow.list_(pyarrow.string())).cast(pyarrow.list_(pyarrow.json_()))


def _pictures() -> Any:
    import pyarrow

    return pyarrow.list_(pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))


def _marked(schema: Any) -> Any:
    """The schema, with a word to `datasets` that pictures are pictures."""
    if IMAGES not in schema.names or schema.field(IMAGES).type != _pictures():
        return schema
    features = {IMAGES: {"_type": "List", "feature": {"_type": "Image"}}}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def unified(tables: Sequence[Any]) -> list[Any]:
    """The tables with one schema that fits them all."""
    schema = _settled(_merge([t.schema for t in tables]))
    return [_fit(t, schema) for t in tables]


def _usual(name: str, found: Any) -> Any:
    """The type of a column whose values so far say nothing, where the name does."""
    import pyarrow

    if pyarrow.types.is_null(found):
        return pyarrow.string() if name in _TEXT else pyarrow.float64() if name in _NUMBERS else found
    if name in ("parents", "reasonings") and pyarrow.types.is_list(found) and pyarrow.types.is_null(found.value_type):
        return pyarrow.list_(pyarrow.string())
    return found


def _merge(schemas: Sequence[Any]) -> Any:
    import pyarrow

    told = {f.name: f.type for schema in schemas for f in schema if _is_json(f.type)}
    alike = [pyarrow.schema([f.with_type(told.get(f.name, f.type)) for f in schema]) for schema in schemas]
    try:
        return _marked(pyarrow.unify_schemas(alike, promote_options="permissive"))
    except pyarrow.ArrowException as error:
        raise DataError(
            f"A column has values of different types in different rows: {error}. Give it one type."
        ) from None


def _is_json(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_list(kind) and kind.value_type == pyarrow.json_())


def _settled(schema: Any) -> Any:
    """The schema with text for columns that never had a value."""
    import pyarrow

    def settle(kind: Any) -> Any:
        if pyarrow.types.is_null(kind):
            return pyarrow.string()
        if pyarrow.types.is_list(kind):
            return pyarrow.list_(settle(kind.value_type))
        return kind

    return _marked(pyarrow.schema([pyarrow.field(f.name, settle(f.type)) for f in schema]))


def _fit(chunk: Any, schema: Any) -> Any:
    """A table in a wider schema: columns that it lacks are null, narrower types are cast."""
    import pyarrow

    if chunk.schema.equals(schema):
        return chunk
    return pyarrow.table([_fitted(chunk, f) for f in schema], schema=schema)


def _fitted(chunk: Any, field: Any) -> Any:
    import pyarrow

    if field.name not in chunk.column_names:
        if field.type == _pictures():
            return pyarrow.array([[]] * chunk.num_rows, field.type)
        return pyarrow.nulls(chunk.num_rows, field.type)
    column = chunk[field.name]
    if _is_json(field.type) and not _is_json(column.type):
        return _json(column.to_pylist())
    return column.cast(field.type)
