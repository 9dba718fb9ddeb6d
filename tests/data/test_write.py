"""Datasets written to disk: loaded by `datasets` as they are, complete or not at all, and read back the same."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard
from pydantic import Field

from synthkd import data
from synthkd.data import Provenance
from synthkd.errors import ConfigError, DataError, RunFolderError
from synthkd.message import Message
from synthkd.record import Demonstration, Instruction

datasets.disable_progress_bars()


class Lesson(Demonstration):
    level: int | None = None
    hints: tuple[str, ...] = ()
    shape: dict[str, int] = Field(default_factory=dict)
    teacher: str = "Ms Frizzle"


def loaded(folder: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


class TestWrite:
    RECORDS = tuple(
        Lesson(
            prompt=f"q{i}" if i % 2 else (Message("system", "s"), Message("user", f"q{i}")),
            completion=f"c{i}",
            reasoning="r" if i > 1500 else None,
            level=i if i > 2100 else None,
            parents=("a",) if i > 1100 else (),
            shape={"n": i},
        )
        for i in range(2500)
    )

    def test_records_come_back_the_same_with_their_ids(self, tmp_path: Path) -> None:
        folder = data.write((data.row(r, Provenance("t")) for r in self.RECORDS), tmp_path / "out", "# Lessons")
        records = data.read(folder, Lesson)
        assert all(a == b and a.id == b.id for a, b in zip(records, self.RECORDS, strict=True))
        assert [records[i] for i in (0, 999, 1000, 2499)] == [self.RECORDS[i] for i in (0, 999, 1000, 2499)]

    def test_load_dataset_loads_it_with_one_type_a_column_though_the_first_chunks_were_empty(
        self, tmp_path: Path
    ) -> None:
        folder = data.write((data.row(r) for r in self.RECORDS), tmp_path / "out", "# Lessons")
        table = loaded(folder, tmp_path / "cache")
        text, turns = (
            datasets.Value("string"),
            datasets.List({k: datasets.Value("string") for k in ("role", "content")}),
        )
        assert table.features["prompt"] == table.features["completion"] == turns
        assert table.features["reasoning"] == table.features["teacher"] == text
        assert table.features["parents"] == table.features["hints"] == datasets.List(text)
        assert (table.features["level"], table.features["weight"]) == (
            datasets.Value("int64"),
            datasets.Value("float64"),
        )
        assert (len(table), table[2499]["level"], table[0]["level"]) == (2500, 2499, None)
        assert table.features == data.to_dataset(self.RECORDS).features
        schemas = {str(pyarrow.parquet.read_schema(p)) for p in folder.rglob("*.parquet")}
        assert len(schemas) == 1

    def test_the_card_says_what_the_files_hold_and_keeps_what_it_said(self, tmp_path: Path) -> None:
        text = "---\ntags:\n- synthkd\n---\n\n# Lessons\n\n---\n"
        card = DatasetCard.load(data.write([{"a": 1}], tmp_path / "out", text) / "README.md")
        assert card.data.tags == ["synthkd"]
        assert card.data["dataset_info"]["features"] == [{"name": "a", "dtype": "int64"}]
        assert card.data["dataset_info"]["splits"][0]["num_examples"] == 1
        assert card.data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
        assert card.text.strip() == "# Lessons\n\n---"

    def test_columns_that_come_late_and_types_that_widen_are_made_one(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [{"a": 1, "c": []} for _ in range(1000)]
        rows += [{"a": 0.5, "b": "late", "c": ["x"]}]
        rows += [{"a": None, "d": None}]
        table = loaded(data.write(rows, tmp_path / "out", ""), tmp_path / "cache")
        kinds = {name: str(feature) for name, feature in table.features.items()}
        assert kinds == {
            "a": "Value('float64')",
            "c": "List(Value('string'))",
            "b": "Value('string')",
            "d": "Value('string')",
        }
        assert (table[0], table[1000]) == (
            {"a": 1.0, "c": [], "b": None, "d": None},
            {"a": 0.5, "c": ["x"], "b": "late", "d": None},
        )

    def test_a_column_of_two_types_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="Rows 1 to 2: the column 'a' cannot be one Arrow column"):
            data.write([{"a": 1}, {"a": "x"}], tmp_path / "out", "")
        far: list[dict[str, Any]] = [*({"a": 1} for _ in range(1000)), {"a": "x"}]
        with pytest.raises(DataError, match=r"different types in different rows.*\ba\b"):
            data.write(far, tmp_path / "out", "")
        assert list(tmp_path.iterdir()) == []

    def test_an_older_dataset_is_replaced_whole_and_stays_where_the_new_one_fails(self, tmp_path: Path) -> None:
        folder = data.write([{"a": i} for i in range(3)], tmp_path / "out", "old")

        def failing() -> Iterator[dict[str, Any]]:
            yield {"a": 5}
            raise RuntimeError("the source broke")

        with pytest.raises(RuntimeError, match="the source broke"):
            data.write(failing(), folder, "new")
        assert len(loaded(folder, tmp_path / "c1")) == 3
        data.write([{"b": 1}], folder, "new")
        assert loaded(folder, tmp_path / "c2").column_names == ["b"]
        assert sorted(p.name for p in tmp_path.iterdir() if p.name[:1] not in "c") == ["out"]

    def test_what_it_has_not_written_it_does_not_delete(self, tmp_path: Path) -> None:
        for name in ("thesis.tex", "README.md"):
            (tmp_path / "mine").mkdir(exist_ok=True)
            (tmp_path / "mine" / name).write_text("years of work")
            with pytest.raises(ConfigError, match=name):
                data.write([{"a": 1}], tmp_path / "mine", "")
            (tmp_path / "mine" / name).unlink()
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError, match="is a file"):
            data.write([{"a": 1}], tmp_path / "file", "")

    def test_no_rows_are_an_error_and_leave_nothing_behind(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no rows to write"):
            data.write([], tmp_path / "out", "")
        with pytest.raises(DataError, match="no rows"):
            data.to_dataset([])
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(RunFolderError, match="Cannot write the dataset"):
            data.write([{"a": 1}], tmp_path / "file" / "out", "")

    def test_it_holds_a_chunk_of_rows_and_not_all(self, tmp_path: Path) -> None:
        def rows() -> Iterator[Mapping[str, Any]]:
            for i in range(20_000):
                yield {"a": f"{i}" + "x" * 2000}  # 40 MB

        tracemalloc.start()
        data.write(rows(), tmp_path / "out", "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 15_000_000

    def test_large_datasets_are_cut_into_shards_with_their_number_in_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("synthkd.data.shards._SHARD_BYTES", 10_000)
        folder = data.write(({"prompt": f"{i:020}"} for i in range(2500)), tmp_path / "out", "")
        assert [p.name for p in sorted(folder.rglob("*.parquet"))] == [
            f"train-0000{i}-of-00003.parquet" for i in range(3)
        ]
        records = data.read(folder, Instruction)
        assert [records[i].prompt for i in (0, 1500, 2499)] == [f"{i:020}" for i in (0, 1500, 2499)]
        assert len(list(records[900:2100])) == 1200
        with pytest.raises(DataError, match=r"no split 'test', only \['train'\]"):
            data.read(folder, Instruction, split="test")
