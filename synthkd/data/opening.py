"""Which format a source is in: the only place that decides by name, folder content or type how rows are read.

Invariant: nothing here guesses. A name that is neither a file, a folder nor a dataset's id is an error.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from synthkd.data.sources import Csv, JsonLines, Listed, Parquet, Source, Table, json_source
from synthkd.errors import DataError

FORMATS = ".jsonl, .json, .csv (each also with .gz), .parquet, a folder of Parquet or one saved by `datasets`"

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SHARD = re.compile(r"(.+)-\d+-of-\d+")


def open_source(source: str | PathLike[str] | Table, split: str) -> Source:
    """The rows of a path, of a dataset's id on the Hub, or of a table in memory; `DataError` where there is none."""
    if not isinstance(source, (str, PathLike)):
        return _table(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path, split)
    if path.exists():
        return _file(path)
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not _known(path):
        return _hub(source, split)
    raise DataError(f"There is no file or folder {str(path)!r}.{_near(path)}")


def _table(source: Any) -> Source:
    if isinstance(source, dict) or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise DataError(
            f"Cannot read rows from a {type(source).__name__}: expected a path, a dataset's id, a list of dicts or a "
            "datasets.Dataset. One that streams or has splits is made into rows by list(...) or [split] first."
        )
    return Listed(f"the given {type(source).__name__}", _undecoded(source))


def _undecoded(found: Any) -> Any:
    """A dataset whose pictures and JSON are given as they are stored; `datasets` reads numbers in JSON inexactly."""
    features = getattr(found, "features", None)
    if not isinstance(features, dict):
        return found
    import datasets

    for name, feature in features.items():
        inner = feature.feature if isinstance(feature, datasets.List) else feature
        if isinstance(inner, datasets.Image | datasets.Json):
            stored = type(inner)(decode=False)
            found = found.cast_column(name, stored if inner is feature else datasets.List(stored))
    return found


def _known(path: Path) -> bool:
    return any(suffix in (".jsonl", ".json", ".csv", ".parquet", ".gz") for suffix in path.suffixes)


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Nor is there a folder {str(path.parent)!r}; the current one is {str(Path.cwd())!r}."
    close = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    return f" Did you mean {' or '.join(close)}?" if close else " Check the spelling and the current folder."


def _file(path: Path) -> Source:
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    match suffixes:
        case [".jsonl"] | [".jsonl", ".gz"]:
            return JsonLines(path)
        case [".json"] | [".json", ".gz"]:
            return json_source(path)
        case [".csv"] | [".csv", ".gz"]:
            return Csv(path)
        case [".parquet"]:
            return Parquet(str(path), [path])
        case _:
            raise DataError(f"{path} ends in {''.join(suffixes) or 'nothing'!r}; what can be read: {FORMATS}.")


def _folder(path: Path, split: str) -> Source:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return _saved(path, split)
    inside = sorted(p for p in path.rglob("*.parquet") if not any(part[0] == "." for part in p.relative_to(path).parts))
    if not inside:
        raise DataError(f"The folder {path} holds no Parquet files and no saved dataset; what can be read: {FORMATS}.")
    of_split = [p for p in inside if _split_of(p) == split or p.parent.name == split or p.stem == split]
    named = {name for p in inside if (name := _split_of(p))}
    if not of_split and named:
        raise DataError(f"The folder {path} has no split {split!r}, only {sorted(named)}: data.read(..., split=...).")
    return Parquet(str(path), of_split or inside)


def _split_of(path: Path) -> str | None:
    found = _SHARD.fullmatch(path.stem)
    return found[1] if found else None


def _saved(path: Path, split: str) -> Source:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # damaged Arrow files raise whatever their reader raises
        raise DataError(f"{path} looks like a saved dataset and cannot be loaded: {error}") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(f"{path} has no split {split!r}, only {sorted(found)}: data.read(..., split=...).")
        found = found[split]
    return Listed(str(path), _undecoded(found))


def _hub(name: str, split: str) -> Source:
    import datasets

    try:
        return Listed(name, _undecoded(datasets.load_dataset(name, split=split)))
    except Exception as error:  # no network, no such dataset, several configurations: all to be told as they are
        raise DataError(
            f"There is no file or folder {name!r} here, and it cannot be loaded as a dataset from the Hub: {error}. "
            "Check the name, or load it yourself and give the result: data.read(datasets.load_dataset(...), ...)."
        ) from error
