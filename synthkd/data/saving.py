"""Saving datasets: the only place where rows become a folder that the Hub's tools load, or a dataset in memory.

Invariant: a folder appears complete or not at all, and an older one stays until the new one is; rows are held a chunk
at a time.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkd.data.columns import row as row_of
from synthkd.data.shards import Shards, table, unified
from synthkd.data.turns import IMAGES
from synthkd.errors import ConfigError, DataError, RunFolderError
from synthkd.record import Record

if TYPE_CHECKING:
    import datasets

_SHARD = re.compile(r"data/train-\d{5}-of-\d{5}\.parquet")
_CHUNK = 1000  # rows in memory at a time, and in one row group
_PICTURES = 64 * 2**20  # bytes of pictures after which a chunk is closed before it has so many


def write(rows: Iterable[Mapping[str, Any]], folder: str | os.PathLike[str], card_text: str) -> Path:
    """Write rows as a folder that `datasets.load_dataset(folder)` loads: `data/train-*.parquet` and `README.md`.

    The rows stream. The folder is made aside and renamed last; one that `write` made before is replaced. A process that
    is killed leaves `.NAME.*.partial` beside it, which may be deleted.

    Args:
        rows: Flat rows, such as `row` gives; a key that some rows lack is null there.
        folder: The folder to make or to replace.
        card_text: The dataset card, with or without YAML metadata; features, splits and sizes are added to it.

    Returns:
        The folder's absolute path.

    Raises:
        DataError: No rows, or a column whose values have no common type.
        ConfigError: The folder holds something that `write` did not make.
        RunFolderError: The folder cannot be written (disk full, read-only).
    """
    target = Path(folder).expanduser().resolve()
    _check_replaceable(target)
    aside = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        (aside / "data").mkdir(parents=True)
        with closing(Shards(aside / "data", "train")) as shards:
            for chunk in _chunks(rows):
                shards.add(table(chunk, shards.rows))
            if not shards.rows:
                raise DataError(f"There are no rows to write to {target}; the run's report says why none were left.")
            shards.finish()
        (aside / "README.md").write_text(_described(card_text, shards), encoding="utf-8")
        _settle(aside / "README.md")
        _swap(aside, target)
    except OSError as error:
        raise RunFolderError(
            f"Cannot write the dataset to {target}: {error}. Make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def to_dataset(rows: Iterable[Mapping[str, Any] | Record]) -> datasets.Dataset:
    """Rows, or records in TRL's columns, as a `datasets.Dataset` in memory.

    Raises:
        DataError: No rows, or a column whose values have no common type.
    """
    import datasets
    import pyarrow

    tables: list[Any] = []
    count = 0
    for chunk in _chunks(row_of(item) if isinstance(item, Record) else item for item in rows):
        tables.append(table(chunk, count))
        count += len(chunk)
    if not tables:
        raise DataError("There are no rows to make a dataset of.")
    return datasets.Dataset(pyarrow.concat_tables(unified(tables)))


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    chunk: list[Mapping[str, Any]] = []
    held = 0
    for item in rows:
        chunk.append(item)
        if pictures := item.get(IMAGES):
            held += sum(len(one.get("bytes") or b"") for one in pictures if isinstance(one, Mapping))
        if len(chunk) == _CHUNK or held >= _PICTURES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _described(card_text: str, shards: Shards) -> str:
    """The card with what `datasets` itself writes into one: features, splits, sizes, and the files of each split."""
    import datasets
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCard

    split = datasets.SplitInfo(name="train", num_bytes=shards.arrow_bytes, num_examples=shards.rows)
    info = datasets.DatasetInfo(
        features=datasets.Features.from_arrow_schema(shards.schema),
        splits=datasets.SplitDict({"train": split}),
        download_size=shards.file_bytes,
        dataset_size=shards.arrow_bytes,
    )
    card = DatasetCard(card_text if card_text.startswith("---\n") else f"---\n{{}}\n---\n\n{card_text}")
    DatasetInfosDict({"default": info}).to_dataset_card_data(card.data)
    card.data["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]
    return str(card)


def _check_replaceable(target: Path) -> None:
    """Refuse to delete what `write` has not made."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file; a dataset is a folder. Choose another name.")
    inside = [p.relative_to(target).as_posix() for p in target.rglob("*")]
    shards = [name for name in inside if _SHARD.fullmatch(name)]
    foreign = [name for name in inside if name not in ("README.md", "data", *shards)] or (inside if not shards else [])
    if foreign:
        raise ConfigError(
            f"{target} holds what is no part of a dataset ({', '.join(sorted(foreign)[:5])}), and writing would "
            "delete it. Choose another folder, or move these away."
        )


def _swap(aside: Path, target: Path) -> None:
    """Put the finished folder in its place. Between the two renames both the old and the new one exist, aside."""
    old = aside.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _settle(path: Path) -> None:
    """On disk before it is named: a rename must not outlive the bytes it names."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
