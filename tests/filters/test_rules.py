"""Rules: one verdict a record, in order, streaming, with few and fixed reasons."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from synthkd.errors import ConfigError, DataError
from synthkd.filters import each, every, first, length, no_refusal, verify
from synthkd.message import Message
from synthkd.record import Candidates, Demonstration, Instruction, Preference
from synthkd.verify import exact


def demonstration(completion: str, **meta: str | int) -> Demonstration:
    return Demonstration(prompt="how many?", completion=completion, meta=dict(meta))


def test_length_keeps_what_is_within_the_limits_and_names_the_limit_else() -> None:
    records = [demonstration(text) for text in ("one", "one two", "one two three four")]
    assert list(length(min_words=2, max_words=3)(records)) == ["fewer than 2 words", None, "more than 3 words"]
    assert list(length(min_chars=4, max_chars=7)(records)) == [
        "fewer than 4 characters",
        None,
        "more than 7 characters",
    ]


def test_length_asks_both_completions_of_a_preference_and_all_of_candidates() -> None:
    rule = length(min_words=2)
    pairs = [Preference(prompt="p", chosen="a b", rejected=text) for text in ("c", "c d")]
    assert list(rule(pairs)) == ["fewer than 2 words", None]
    several = [Candidates(prompt="p", completions=texts) for texts in (("a b", "c"), ("a b", "c d"))]
    assert list(rule(several)) == ["fewer than 2 words", None]


def test_length_of_the_prompt_works_on_every_kind_that_has_one() -> None:
    rule = length(max_words=2, of="prompt")
    chat = Instruction(prompt=(Message("system", "be kind"), Message("user", "hello")))
    assert list(rule([Instruction(prompt="one two"), chat])) == [None, "more than 2 words"]
    assert list(rule([demonstration("a completion of any length")])) == [None]


def test_length_of_a_completion_that_is_not_there_says_what_to_ask_instead() -> None:
    with pytest.raises(ConfigError, match=r"Instruction has none.*of='prompt'"):
        list(length(min_words=2)([Instruction(prompt="p")]))  # type: ignore[list-item]


def test_length_refuses_limits_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="at least one of min_words"):
        length()
    with pytest.raises(ConfigError, match="least, 5, is more than the most, 3"):
        length(min_words=5, max_words=3)


def test_each_makes_a_filter_of_a_function_and_names_it_in_the_reason() -> None:
    def short(record: Demonstration) -> bool:
        return len(record.completion) < 5

    records = [demonstration("ok"), demonstration("much too long")]
    assert list(each(short)(records)) == [None, "not short"]
    assert list(each(short, "rambles")(records)) == [None, "rambles"]


def test_each_refuses_a_function_that_forgot_to_return() -> None:
    def forgetful(record: Demonstration) -> bool:
        return None  # type: ignore[return-value]

    with pytest.raises(ConfigError, match=r"'forgetful'.*returned None"):
        list(each(forgetful)([demonstration("x")]))


def test_verify_tells_wrong_answers_from_missing_ones() -> None:
    texts = ("so 72", "The answer is $72.00.", r"thus \boxed{71}", "no idea")
    records = [demonstration(text, answer="72") for text in texts]
    assert list(verify()(records)) == [None, None, "wrong answer", "no final answer"]


def test_verify_takes_the_known_answer_from_a_field_from_meta_or_out_of_a_whole_solution() -> None:
    class Solved(Demonstration):
        solution: str

    field = Solved(prompt="p", completion="72", solution="48 + 24 = <<48+24=72>>72\n#### 72")
    assert list(verify(gold="solution", by=exact)([field])) == [None]
    assert list(verify(gold="result")([demonstration("72", result=72)])) == [None]


def test_verify_without_a_known_answer_names_what_is_there() -> None:
    with pytest.raises(DataError, match=r"'answer', and finds None.*Fields: prompt, completion.*in meta: result"):
        list(verify()([demonstration("72", result=72)]))


def test_every_gives_the_first_reason_and_asks_no_further() -> None:
    seen = []

    def look(record: Demonstration) -> bool:
        seen.append(record.completion)
        return True

    records = [demonstration(text) for text in ("a b", "a", "I'm sorry, but I can't.", "a b c d e f g", "b c", "c d")]
    rule = every(length(min_words=2, max_words=5), no_refusal(), each(look), first(2))
    assert list(rule(records)) == [
        None,
        "fewer than 2 words",
        "refusal",
        "more than 5 words",
        None,
        "more than asked for",
    ]
    assert seen == ["a b", "b c", "c d"]


def test_every_says_which_filter_breaks_the_protocol() -> None:
    def short(records: Iterable[Demonstration]) -> Iterator[str | None]:
        return (None for _ in zip(records, range(1), strict=False))

    def long(records: Iterable[Demonstration]) -> Iterator[str | None]:
        yield None

    with pytest.raises(ConfigError, match="too few verdicts"):
        list(every(short)([demonstration("a"), demonstration("b")]))
    with pytest.raises(ConfigError, match="a verdict for no record"):
        list(every(long)([demonstration("a")]))
    with pytest.raises(ConfigError, match="at least one filter"):
        every()


@pytest.mark.parametrize("rule", [length(min_words=1), each(lambda record: True), verify(), every(length(min_words=1))])
def test_rules_stream(rule: object) -> None:
    taken = []

    def records() -> Iterator[Demonstration]:
        for number in range(1000):
            taken.append(number)
            yield demonstration(str(number), answer=number)

    verdicts = rule(records())  # type: ignore[operator]
    assert [next(verdicts), next(verdicts)] == [None, None]
    assert len(taken) == 2


def test_a_filter_for_another_kind_of_record_is_a_type_error(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy: pip install 'synthkd[dev]'")
    script = tmp_path / "script.py"
    script.write_text(
        "from typing import TypeVar\n"
        "from synthkd.filters import Filter, each, length, verify\n"
        "from synthkd.record import Candidates, Demonstration, Instruction, Preference, Record\n"
        'R = TypeVar("R", bound=Record)\n'
        "def take(rule: Filter[R], records: list[R]) -> None: ...\n"
        "def good(record: Record) -> bool: return True\n"
        "def right(i: list[Instruction], d: list[Demonstration], p: list[Preference], c: list[Candidates]) -> None:\n"
        "    take(length(min_words=1), d); take(length(min_words=1), p); take(length(min_words=1), c)\n"
        "    take(length(min_words=1, of='prompt'), i); take(verify(), d); take(each(good), i)\n"
        "def wrong(i: list[Instruction], p: list[Preference]) -> None:\n"
        "    take(length(min_words=1), i)\n"
        "    take(verify(), p)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(script)],  # shares the cache of `make check`
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    found = [line.split(": error:")[0] for line in done.stdout.splitlines() if "script.py" in line and "error:" in line]
    assert [line.rsplit(":", 1)[1] for line in found] == ["11", "12"], done.stdout
