"""Reading records from real files and datasets: the same records from every format, streamed, checked first."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import pytest

from synthkd import data
from synthkd.errors import ConfigError, DataError
from synthkd.record import Demonstration, Instruction

datasets.disable_progress_bars()
ROWS = [{"prompt": f"question {i}\nwith, a comma", "completion": f'"answer" {i} é', "weight": i / 2} for i in range(50)]


def save(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """A file of rows in the format that its name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        datasets.Dataset.from_list(rows).to_parquet(str(path))
        return path
    if name.endswith(".csv"):
        head = ",".join(rows[0])
        quoted = [",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in rows]
        text = "\r\n".join([head, *quoted]) + "\r\n"
    else:
        text = json.dumps(rows, indent=1) if name.endswith(".json") else "\n\n".join(map(json.dumps, rows))
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


class TestRead:
    @pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet"])
    def test_every_format_gives_the_same_records_walked_indexed_and_sliced(self, tmp_path: Path, suffix: str) -> None:
        records = data.read(save(tmp_path / f"rows{suffix}"), Demonstration)
        expected = [Demonstration(**row) for row in ROWS]
        assert (len(records), list(records), list(records)) == (50, expected, expected)
        assert [records[i] for i in (0, 17, -1)] == [expected[i] for i in (0, 17, -1)]
        assert list(records[10:20]) == expected[10:20]
        assert list(records[::-7][1:]) == expected[::-7][1:]
        with pytest.raises(IndexError):
            records[50]

    def test_a_json_file_may_hold_an_object_a_line(self, tmp_path: Path) -> None:
        path = save(tmp_path / "rows.jsonl").rename(tmp_path / "rows.json")
        assert len(data.read(path, Demonstration)) == 50

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        for name, text in (("a.csv", "prompt\nx\n"), ("a.jsonl", '{"prompt": "x"}'), ("a.json", '[{"prompt": "x"}]')):
            (tmp_path / name).write_text(text, encoding="utf-8-sig")
            assert data.read(tmp_path / name, Instruction)[0].prompt == "x"

    def test_a_csv_cell_may_be_long_and_an_empty_one_is_absent(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(f'prompt,completion,reasoning,weight,parents\n{"x" * 200_000},y,,,"[""a""]"\n')
        record = data.read(tmp_path / "a.csv", Demonstration)[0]
        assert (len(str(record.prompt)), record.reasoning, record.weight, record.parents) == (
            200_000,
            None,
            1.0,
            ("a",),
        )

    def test_saved_datasets_and_datasets_and_lists_are_read(self, tmp_path: Path) -> None:
        table = datasets.Dataset.from_list(ROWS)
        table.save_to_disk(str(tmp_path / "one"))
        datasets.DatasetDict({"test": table}).save_to_disk(str(tmp_path / "many"))
        expected = [Demonstration(**row) for row in ROWS]
        assert list(data.read(tmp_path / "one", Demonstration)) == expected
        assert list(data.read(tmp_path / "many", Demonstration, split="test")) == expected
        assert data.read(table, Demonstration)[3] == expected[3]
        assert list(data.read(ROWS, Demonstration)[5:]) == expected[5:]
        with pytest.raises(DataError, match=r"no split 'train', only \['test'\]"):
            data.read(tmp_path / "many", Demonstration)

    def test_an_id_that_is_no_file_is_loaded_from_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def load_dataset(name: str, split: str) -> datasets.Dataset:
            asked.append((name, split))
            return datasets.Dataset.from_list(ROWS)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        assert data.read("someone/rows", Demonstration, split="test").source == "someone/rows"
        assert asked == [("someone/rows", "test")]

    def test_a_dataset_that_the_hub_does_not_give_is_an_error_with_its_reason(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load_dataset(name: str, split: str) -> datasets.Dataset:
            raise ValueError("Config name is missing. Please pick one among ['main', 'socratic']")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(DataError, match=r"someone/rows.*pick one among.*load it yourself"):
            data.read("someone/rows", Demonstration)

    def test_fields_map_columns_and_fill_meta_and_other_columns_are_left_out(self) -> None:
        rows = [{"question": "6*7?", "answer": "42", "source": "x"}]
        record = data.read(rows, Instruction, fields={"prompt": "question", "meta.answer": "answer"})[0]
        assert record == Instruction(prompt="6*7?", meta={"answer": "42"})

    def test_limit_reads_and_checks_no_more_than_it_says(self) -> None:
        rows = [{"prompt": "good"}, {"prompt": "good"}, {"prompt": 5}]
        assert len(data.read(rows, Instruction, limit=2)) == 2
        with pytest.raises(DataError, match="row 3"):
            data.read(rows, Instruction)
        with pytest.raises(ConfigError, match="limit must be at least 1"):
            data.read(rows, Instruction, limit=0)

    def test_the_first_bad_row_is_found_before_anything_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": ["b"]}\n')
        with pytest.raises(DataError, match=r"a.jsonl, line 3: \"prompt\" is \['b'\] \(list\).*valid string"):
            data.read(tmp_path / "a.jsonl", Instruction)

    def test_a_file_that_changed_after_it_was_read_is_an_error(self, tmp_path: Path) -> None:
        records = data.read(save(tmp_path / "rows.jsonl"), Demonstration)
        save(tmp_path / "rows.jsonl", ROWS[:7])
        with pytest.raises(DataError, match="changed or removed after it was read"):
            list(records)

    def test_a_large_file_is_never_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "large.jsonl"
        path.write_text((json.dumps({"prompt": "x" * 1000}) + "\n") * 5000)  # 5 MB
        tracemalloc.start()
        count = sum(1 for _ in data.read(path, Instruction))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 5000
        assert peak < 500_000

    def test_importing_it_loads_no_heavy_library(self) -> None:
        code = "import sys, synthkd.data; print({'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.stdout == "set()\n"


def test_published_data_is_read_as_it_is() -> None:
    folder = os.environ.get("SYNTHKD_DATA")
    if folder is None:
        pytest.skip("SYNTHKD_DATA does not name a folder with the published data sets")
    fields = {"prompt": "question", "meta.answer": "answer"}
    assert len(data.read(Path(folder) / "gsm8k_train.jsonl", Instruction, fields=fields)) == 7473
    assert len(data.read(Path(folder) / "HumanEval.jsonl.gz", Instruction)) == 164
    assert (
        len(data.read(Path(folder) / "self_instruct_seed_tasks.jsonl", Instruction, fields={"prompt": "instruction"}))
        == 175
    )


def test_csv_written_by_the_standard_library_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    assert list(data.read(tmp_path / "a.csv", Demonstration)) == [Demonstration(**row) for row in ROWS]


def test_half_a_character_is_said_with_its_place_and_its_cure(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b", "meta": {"topic": ["\ude00"]}}]
    with pytest.raises(DataError, match=r"row 2: meta\.topic\[0\], character 1, holds half.*text\.encode"):
        data.read(rows, Instruction)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b\\ud83d"}\n')
    with pytest.raises(DataError, match="line 2"):
        data.read(file, Instruction)
