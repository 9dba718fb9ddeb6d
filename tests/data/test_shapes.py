"""Rows that become records: conversations in their many spellings, and errors that say what is wrong and where."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from synthkd import data
from synthkd.errors import ConfigError, DataError
from synthkd.message import Message
from synthkd.record import Candidates, Demonstration, Instruction, Preference

ROWS = [{"prompt": f"question {i}\nwith, a comma", "completion": f'"answer" {i} é', "weight": i / 2} for i in range(50)]


class TestConversations:
    TURNS = (
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    )

    def test_messages_give_the_prompt_up_to_the_last_user_turn_and_the_completion(self) -> None:
        prompt = (Message("system", "be kind"), Message("user", "hi"))
        rows = [{"messages": list(self.TURNS)}]
        assert data.read(rows, Instruction)[0] == Instruction(prompt=prompt)
        assert data.read(rows, Demonstration)[0] == Demonstration(prompt=prompt, completion="hello")

    def test_a_prompt_of_one_user_turn_is_its_text(self) -> None:
        assert data.read([{"messages": list(self.TURNS[1:])}], Instruction)[0].prompt == "hi"

    def test_other_spellings_are_read(self) -> None:
        share = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
        rows = [{"conversations": share}]
        assert data.read(rows, Demonstration, fields={"messages": "conversations"})[0].completion == "hello"
        parts = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]
        assert data.read([{"messages": parts}], Instruction)[0].prompt == "hi"

    def test_preferences_without_a_prompt_column_take_it_from_their_conversations(self) -> None:
        rows = [{"chosen": list(self.TURNS), "rejected": [*self.TURNS[:2], {"role": "assistant", "content": "go"}]}]
        record = data.read(rows, Preference)[0]
        assert (record.instruction, record.chosen, record.rejected) == ("hi", "hello", "go")

    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            ({"messages": [{"role": "assistant", "content": "hello"}]}, "has no user turn"),
            ({"messages": [{"role": "user", "content": "hi"}]}, "has 0 turns after the last user turn"),
            ({"messages": [{"role": "user", "content": None}]}, 'turn 1 of "messages" has the content None'),
            ({"messages": [{"role": "wizard", "content": "hi"}, {"role": "user", "content": "x"}, TURNS[2]]}, "wizard"),
            ({"prompt": "p", "completion": [TURNS[1]]}, "ends with a user turn"),
            ({"prompt": "p", "completion": list(TURNS)}, "begins with another conversation than the prompt"),
        ],
    )
    def test_conversations_that_do_not_fit_are_errors(self, row: dict[str, Any], problem: str) -> None:
        with pytest.raises(DataError, match=problem):
            data.read([row], Demonstration)


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.jsonl", "", "holds no rows"),
            ("a.json", "[]", "holds no rows"),
            ("a.json", "", "holds no rows"),
            ("a.csv", "prompt\n", "holds no rows"),
            ("a.csv", "", "holds no rows"),
            ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', r"line 2: not JSON .*column \d+"),
            ("a.jsonl", '[{"prompt": "a"}]', r"line 1: expected an object.*found \[\{"),
            ("a.json", '{\n"data": []}', "holds an object with data; expected an array"),
            ("a.json", '[{"prompt": "a"},\n}]', "line 2, column 1: not JSON"),
            ("a.csv", "prompt,answer\na,b\nc\n", r"line 3: 1 cells where the header has 2 \(prompt, answer\)"),
            ("a.csv", 'prompt\nfine\n"a\nb\n', r"line 3: not CSV"),
            ("a.csv", "a,a\n1,2\n", r"names a column twice: \['a'\]"),
            ("a.csv", b"prompt\nna\xefve\n", "line 2: not UTF-8"),
            ("a.jsonl", b'{"prompt": "na\xefve"}\n', "line 1: not JSON"),
            ("a.jsonl.gz", b"not gzip", "not a complete gzip file"),
            ("a.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n', mtime=0)[:-9], "not a complete gzip file"),
            ("a.parquet", b"PAR1 and nothing", "not a readable Parquet file"),
            ("a.txt", "x", "ends in '.txt'; what can be read: .jsonl"),
        ],
    )
    def test_a_damaged_file_is_named_with_line_and_cause(
        self, tmp_path: Path, name: str, content: str | bytes, message: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(DataError, match=message) as caught:
            data.read(path, Instruction)
        assert str(path) in str(caught.value)

    def test_a_missing_field_lists_the_columns_and_suggests_one(self) -> None:
        with pytest.raises(
            DataError, match=r"row 1: no \"prompt\".*found: question, id.*fields=\{'prompt': 'question'\}"
        ):
            data.read([{"question": "x", "id": 1}], Instruction)

    def test_an_empty_required_field_is_named(self) -> None:
        with pytest.raises(DataError, match='"completion" is empty, and Demonstration needs it'):
            data.read([{"prompt": "x", "completion": None}], Demonstration)

    def test_a_value_of_another_type_is_shown(self) -> None:
        with pytest.raises(DataError, match=r"\"weight\" is 'heavy' \(str\).*valid number"):
            data.read([{"prompt": "x", "completion": "y", "weight": "heavy"}], Demonstration)

    def test_a_rule_over_several_fields_is_told(self) -> None:
        with pytest.raises(DataError, match="2 reasonings for 1 completions"):
            data.read([{"prompt": "x", "completions": ["y"], "reasonings": ["a", "b"]}], Candidates)

    def test_a_mapping_with_a_misspelt_field_or_column_says_which_was_meant(self) -> None:
        with pytest.raises(ConfigError, match=r"'promt'.*Did you mean 'prompt'"):
            data.read(ROWS, Instruction, fields={"promt": "prompt"})
        with pytest.raises(DataError, match=r"no column 'promt'.*Did you mean 'prompt'"):
            data.read(ROWS, Instruction, fields={"prompt": "promt"})

    def test_a_missing_file_names_its_neighbours(self, tmp_path: Path) -> None:
        (tmp_path / "seeds.jsonl").touch()
        with pytest.raises(DataError, match=r"Did you mean seeds\.jsonl"):
            data.read(tmp_path / "seed.jsonl", Instruction)
        with pytest.raises(DataError, match=r"no file or folder 'nowhere/seeds\.jsonl'"):
            data.read("nowhere/seeds.jsonl", Instruction)
        with pytest.raises(DataError, match="holds no Parquet files"):
            data.read(tmp_path, Instruction)

    def test_what_is_no_table_or_no_kind_is_refused(self) -> None:
        with pytest.raises(DataError, match="Cannot read rows from a generator"):
            data.read((row for row in ROWS), Instruction)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="needs a kind of record"):
            data.read(ROWS, dict)  # type: ignore[type-var]
