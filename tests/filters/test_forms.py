"""Forms: what a text looks like, and whether its numbers come from somewhere."""

from __future__ import annotations

import pytest

from synthkd.errors import ConfigError
from synthkd.filters import formatted, numbers
from synthkd.filters.rules import Filter
from synthkd.record import Demonstration


def verdicts(rule: Filter[Demonstration], *texts: str, prompt: str = "p") -> list[str | None]:
    return list(rule([Demonstration(prompt=prompt, completion=text) for text in texts]))


def test_a_text_starts_and_ends_as_asked() -> None:
    rule = formatted(starts=("Step", "First"), ends=".")
    starts, ends = "does not start as asked", "does not end as asked"
    assert verdicts(rule, " Step 1.\n", "First x", "Then x.") == [None, ends, starts]


def test_a_pattern_is_searched_for() -> None:
    assert verdicts(formatted(pattern=r"\A\d+\Z"), "12", "12 apples") == [None, "does not match the pattern"]
    with pytest.raises(ConfigError, match="not a regular expression"):
        formatted(pattern="(")


@pytest.mark.parametrize("text", ['{"a": [1, 2.5e3, null]}', ' "x" ', "9" * 10_000, "[]"])
def test_json_is_json(text: str) -> None:
    assert verdicts(formatted(is_json=True), text) == [None]


@pytest.mark.parametrize(
    "text", ["", "{'a': 1}", '{"a": 1', "NaN", '{"a": 1} done', "[" * 100_000, '```json\n{"a": 1}\n```']
)
def test_what_is_not_json_to_the_letter_is_not(text: str) -> None:
    assert verdicts(formatted(is_json=True), text) == ["not JSON"]


def test_code_stands_in_a_closed_fence() -> None:
    text = "Here:\n```python\nprint('x')\n```\nDone."
    assert verdicts(formatted(code=True), text, "no code", text[:25]) == [None, "no code fence", "code fence left open"]
    assert verdicts(formatted(code="Python"), text, text.replace("python", "js")) == [None, "no code fence"]
    nested = "````md\n```python\nx\n```\n````"
    assert verdicts(formatted(code="md"), nested) == [None]
    assert verdicts(formatted(code="python"), nested) == ["no code fence"]


def test_something_must_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="needs something to ask for"):
        formatted()


def test_every_number_comes_from_the_prompt() -> None:
    prompt = "Anna has 1,000 apples and eats 2.50 of them on 3 days."
    texts = ("1000 minus 2.5", "1. First\n2) Then 3", "Step 4: take 3", "She has 997.5", "-3", "none")
    nowhere = "number from nowhere"
    assert verdicts(numbers(), *texts, prompt=prompt) == [None, None, None, nowhere, None, None]


def test_the_same_numbers_and_no_others() -> None:
    found = verdicts(numbers(same=True), "3 and 7", "7", "3, 7, 8", prompt="7 times 3")
    assert found == [None, "numbers differ", "number from nowhere"]
