"""Reading training data: which columns are kept, and what is said of those that are missing."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from synthkd.data import row, to_dataset, write
from synthkd.errors import DataError
from synthkd.record import Demonstration, Preference
from synthkd.training.formats import DEMONSTRATIONS, PREFERENCES, fitting, load, weights

pytestmark = pytest.mark.train


def test_every_form_of_a_dataset_gives_the_same_rows(told: list[Demonstration], tmp_path: Path) -> None:
    memory = to_dataset(told)
    saved = write([row(record) for record in told], tmp_path / "saved", "# told")
    memory.save_to_disk(str(tmp_path / "disk"))
    datasets.DatasetDict(train=memory).save_to_disk(str(tmp_path / "splits"))
    memory.to_parquet(str(tmp_path / "one.parquet"))
    expected = [
        {
            "prompt": [{"role": "user", "content": record.prompt}],
            "completion": [{"role": "assistant", "content": record.completion}],
            "weight": 1.0,
        }
        for record in told
    ]
    for form in (saved, str(saved), tmp_path / "disk", tmp_path / "splits", tmp_path / "one.parquet", memory, told):
        rows = load(form, DEMONSTRATIONS)
        assert [{k: r[k] for k in ("prompt", "completion", "weight")} for r in rows.data] == expected, form
        assert set(rows.data.column_names) == {"prompt", "completion", "weight"}


def test_a_missing_column_is_named_with_the_record_that_has_it(told: list[Demonstration], tmp_path: Path) -> None:
    saved = write([row(record) for record in told], tmp_path / "saved", "# told")
    with pytest.raises(DataError) as caught:
        load(saved, PREFERENCES)
    for part in ("lacks chosen and rejected", "it has prompt", "Preference", "Rank"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"lacks completion; it has text, prompt\. sft takes .* Demonstration"):
        load(datasets.Dataset.from_dict({"text": ["b"], "prompt": ["a"]}), DEMONSTRATIONS)


def test_what_cannot_be_read_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no dataset at .*nowhere"):
        load(tmp_path / "nowhere", DEMONSTRATIONS)
    with pytest.raises(DataError, match="holds no Parquet files"):
        load(tmp_path, DEMONSTRATIONS)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(tmp_path, DEMONSTRATIONS)


def test_rows_without_text_and_mixed_columns_are_refused() -> None:
    with pytest.raises(DataError, match="row 1 has an empty completion"):
        load(datasets.Dataset.from_dict({"prompt": ["a", "b"], "completion": ["c", ""]}), DEMONSTRATIONS)
    turns = [[{"role": "user", "content": "a"}]]
    with pytest.raises(DataError, match="prompt is list, completion is str"):
        load(datasets.Dataset.from_dict({"prompt": turns, "completion": ["c"]}), DEMONSTRATIONS)
    with pytest.raises(DataError, match="splits test and no train"):
        load(datasets.DatasetDict(test=datasets.Dataset.from_dict({"prompt": ["a"]})), DEMONSTRATIONS)


def test_rows_that_are_too_long_are_left_out_and_counted_and_never_cut(pairs: list[Preference]) -> None:
    from tiny_models import make_tokenizer

    long = [*pairs, Preference(prompt="Hello", chosen="Yes.", rejected="No, " * 50)]
    rows = fitting(load(long, PREFERENCES), make_tokenizer(), 40, PREFERENCES)
    assert (len(rows.data), rows.total, rows.too_long) == (8, 9, 1)
    tokenizer = make_tokenizer()
    whole = [f"<|user|>{p.prompt}<|end|><|assistant|>{said}<|end|>" for p in pairs for said in (p.chosen, p.rejected)]
    assert rows.tokens == sum(len(ids) for ids in tokenizer(whole)["input_ids"])
    with pytest.raises(DataError, match="none of 9 rows has at most max_length=3 tokens; the shortest has"):
        fitting(load(long, PREFERENCES), tokenizer, 3, PREFERENCES)


def test_weights_have_a_mean_of_one_and_equal_ones_are_no_weights() -> None:
    def weighted(*values: float) -> list[float] | None:
        records = [Demonstration(prompt=str(k), completion="a", weight=w) for k, w in enumerate(values)]
        return weights(load(records, DEMONSTRATIONS))

    assert weighted(0.5, 1.0, 0.0) == [1.0, 2.0, 0.0]
    assert weighted(0.5, 0.5) is None
    for values, message in (((1.0, -1.0), "row 1 has the weight -1.0"), ((0.0, 0.0), "every weight is 0")):
        with pytest.raises(DataError, match=message):
            weighted(*values)
