"""Decontamination: what evaluation sets hold is found, and the set is named."""

from __future__ import annotations

import pytest

from synthkd.errors import ConfigError
from synthkd.filters import decontaminate
from synthkd.record import Demonstration, Instruction

PROBLEM = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
SHORT = "Write a function to reverse words."


def test_a_run_of_words_from_an_evaluation_set_is_found_in_prompt_and_completion() -> None:
    rule = decontaminate({"gsm8k": [PROBLEM], "mbpp": [Instruction(prompt=SHORT)]}, ngram=8)
    records = [
        Demonstration(prompt="Solve: natalia SOLD clips to 48 of her friends (in April).", completion="x"),
        Demonstration(prompt="p", completion="Task: write a function to reverse words!"),
        Demonstration(prompt="Natalia sold clips to 48 people.", completion="write a function"),
    ]
    assert list(rule(records)) == ["overlaps gsm8k", "overlaps mbpp", None]


def test_thirteen_words_are_a_run_unless_told_otherwise() -> None:
    words = PROBLEM.split()
    rule = decontaminate([PROBLEM])
    records = [Instruction(prompt=" ".join(words[2 : 2 + count])) for count in (12, 13)]
    assert list(rule(records)) == [None, "overlaps evaluation"]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    rule = decontaminate({"c-eval": ["下列关于量子力学的说法中正确的是哪一项"]}, ngram=8)
    records = [Instruction(prompt=p) for p in ("问：关于量子力学的说法，哪些对？", "今天天气怎么样？")]
    assert list(rule(records)) == ["overlaps c-eval", None]


def test_texts_too_short_to_tell_are_left_out_and_nothing_but_them_is_refused() -> None:
    with pytest.raises(ConfigError, match="no evaluation text of at least 6 words"):
        decontaminate({"tiny": ["Is it so?"]})
    assert list(decontaminate(["Is it so?"], shortest=3)([Instruction(prompt="Tell me, is it so?")])) == [
        "overlaps evaluation"
    ]
    with pytest.raises(ConfigError, match="one text; expected a list"):
        decontaminate({"set": PROBLEM})
    with pytest.raises(ConfigError, match="1 <= shortest <= ngram"):
        decontaminate([PROBLEM], ngram=4)
