"""Records laid out as TRL's columns."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from synthkd import data
from synthkd.data import Provenance
from synthkd.errors import ConfigError
from synthkd.record import Candidates, Demonstration, Instruction, Masked, Preference, Record


class Lesson(Demonstration):
    level: int | None = None
    hints: tuple[str, ...] = ()
    shape: dict[str, int] = Field(default_factory=dict)
    teacher: str = "Ms Frizzle"


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


class TestRow:
    def test_the_columns_are_trls_and_provenance_comes_last(self) -> None:
        record = Demonstration(prompt="p", completion="c", reasoning="r", parents=("a",), meta={"gold": 1})
        came = Provenance("openai/gpt", "labeling/answer@3f2a91c0", {"temperature": 0.5})
        assert data.row(record, came) == {
            "prompt": message("user", "p"),
            "completion": message("assistant", "c"),
            "reasoning": "r",
            "weight": 1.0,
            "privileged_context": None,
            "id": record.id,
            "parents": ["a"],
            "teacher": "openai/gpt",
            "prompt_template": "labeling/answer@3f2a91c0",
            "sampling": '{"temperature":0.5}',
            "meta": '{"gold":1}',
        }

    @pytest.mark.parametrize(
        ("record", "columns"),
        [
            (Instruction(prompt="p"), {}),
            (
                Preference(prompt="p", chosen="c", rejected="r", score_chosen=2),
                {
                    "chosen": message("assistant", "c"),
                    "rejected": message("assistant", "r"),
                    "score_chosen": 2.0,
                    "score_rejected": None,
                },
            ),
            (Candidates(prompt="p", completions=("a", "b")), {"completions": ["a", "b"], "reasonings": []}),
        ],
    )
    def test_each_kind_has_its_own_columns(self, record: Record, columns: dict[str, Any]) -> None:
        row = data.row(record, Provenance())
        for name in ("id", "parents", "teacher", "prompt_template", "sampling", "meta"):
            del row[name]
        assert row == {"prompt": message("user", "p"), **columns}

    def test_reasoning_goes_before_the_completion_where_asked(self) -> None:
        record = Demonstration(prompt="p", completion="c", reasoning="{r}")
        for how, text in (("think", "<think>\n{r}\n</think>\n\nc"), ("inline", "{r}\n\nc")):
            row = data.row(record, reasoning=how)  # type: ignore[arg-type]
            assert (row["completion"], "reasoning" in row) == (message("assistant", text), False)
        several = Candidates(prompt="p", completions=("a", "b"), reasonings=("r", None))
        assert data.row(several, reasoning="inline")["completions"] == ["r\n\na", "b"]
        with pytest.raises(ConfigError, match="'column', 'think' or 'inline'"):
            data.row(record, reasoning="aloud")  # type: ignore[arg-type]

    def test_masked_spans_move_with_what_is_put_before_them(self) -> None:
        record = Masked(prompt="p", completion="see [x] ok", masked=((4, 7),), reasoning="r")
        assert (data.row(record)["masked"], data.row(record)["reasoning"]) == ([[4, 7]], "r")
        row = data.row(record, reasoning="think")
        [(begin, end)] = row["masked"]
        assert row["completion"][0]["content"][begin:end] == "[x]"

    def test_fields_of_a_users_kind_are_flat_columns_and_keep_off_provenance(self) -> None:
        row = data.row(Lesson(prompt="p", completion="c", hints=("h",), shape={"n": 1}), Provenance("openai/gpt"))
        assert (row["level"], row["hints"], row["shape"]) == (None, ["h"], '{"n":1}')
        assert (row["teacher_"], row["teacher"]) == ("Ms Frizzle", "openai/gpt")

    def test_a_kind_that_is_no_prompt_is_its_fields(self) -> None:
        class Document(Record):
            text: str
            scores: tuple[float, ...]
            either: int | str

        row = data.row(Document(text="t", scores=(1, 2), either=3))
        assert (row["text"], row["scores"], row["either"], "prompt" in row) == ("t", [1.0, 2.0], "3", False)


@pytest.mark.train  # only for the import, which takes seconds
def test_the_columns_are_what_trl_takes() -> None:
    trl = pytest.importorskip("trl.data_utils", reason="needs TRL: pip install 'synthkd[train]'")
    pair = data.to_dataset([Preference(prompt="p", chosen="c", rejected="r")])[0]
    assert trl.is_conversational(pair)
    lesson = data.to_dataset([Demonstration(prompt="p", completion="c")])[0]
    assert trl.is_conversational(lesson)
