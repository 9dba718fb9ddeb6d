"""MinHash: near duplicates as exact Jaccard would find them, whatever the batches."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters import dedup
from synthkd.filters.dedup.minhash import bands_of
from synthkd.record import Demonstration, Instruction

pytest.importorskip("rensa", reason="needs rensa: pip install 'synthkd[filters]'")

VOCABULARY = [f"{a}{b}{c}" for a in "bcdfgl" for b in "aeiou" for c in "mnrst"]


def shingles(text: str, size: int = 5) -> set[str]:
    text = " ".join(text.lower().split())
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


def expected(texts: list[str], threshold: float) -> list[str | None]:
    kept: list[set[str]] = []
    found: list[str | None] = []
    for text in texts:
        ours = shingles(text)
        near = any(len(ours & other) >= threshold * len(ours | other) for other in kept)
        found.append("near duplicate" if near else None)
        if not near:
            kept.append(ours)
    return found


def varied(count: int, longest: int, seed: int = 1) -> list[str]:
    """Texts, more than half of them changed a little from an earlier one."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        if texts and rng.random() < 0.6:
            cut = rng.choice(texts).split()
            for _ in range(rng.randint(0, 3)):
                cut[rng.randrange(len(cut))] = rng.choice(VOCABULARY)
            texts.append(" ".join(cut))
        else:
            texts.append(" ".join(rng.choices(VOCABULARY, k=rng.randint(1, longest))))
    return texts


def prompts(texts: list[str]) -> list[Instruction]:
    return [Instruction(prompt=text) for text in texts]


def test_short_texts_get_the_verdicts_of_exact_jaccard() -> None:
    texts = varied(1200, longest=30)
    found = list(dedup.minhash(0.8)(prompts(texts)))
    wrong = sum(a != b for a, b in zip(found, expected(texts, 0.8), strict=True))
    assert 300 < found.count(None) < 1100
    assert wrong <= 2, wrong


def test_long_texts_are_estimated_within_the_error_of_the_sketch() -> None:
    texts = varied(600, longest=400)
    found = list(dedup.minhash(0.8)(prompts(texts)))
    wrong = sum(a != b for a, b in zip(found, expected(texts, 0.8), strict=True))
    assert wrong < 0.04 * len(texts), wrong


@given(st.lists(st.text(alphabet="ab ", max_size=12), max_size=12), st.sampled_from([0.3, 0.8, 1.0]))
@settings(max_examples=60)
def test_nothing_is_dropped_that_exact_jaccard_keeps_from_all_before_it(texts: list[str], threshold: float) -> None:
    found = list(dedup.minhash(threshold)(prompts(texts)))
    for place, reason in enumerate(found):
        if reason is not None:
            ours = shingles(texts[place])
            kept = [shingles(texts[other]) for other in range(place) if found[other] is None]
            assert any(len(ours & other) >= threshold * len(ours | other) for other in kept)


def test_each_record_has_its_verdict_before_the_next_is_taken() -> None:
    taken = []

    def records() -> Iterator[Instruction]:
        for record in prompts(varied(20, longest=9)):
            taken.append(record)
            yield record

    for number, _ in enumerate(dedup.minhash()(records()), 1):
        assert len(taken) == number


def test_the_verdicts_are_the_same_in_every_process() -> None:
    texts = varied(100, longest=9)
    rule = dedup.minhash(unit="words", ngram=2)
    script = (
        "import json, sys\nfrom synthkd.filters import dedup\nfrom synthkd.record import Instruction\n"
        "records = [Instruction(prompt=text) for text in json.load(sys.stdin)]\n"
        "print(json.dumps(list(dedup.minhash(unit='words', ngram=2)(records))))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(texts), capture_output=True, text=True, check=True, env=env
    )
    assert json.loads(done.stdout) == list(rule(prompts(texts)))
    assert "near duplicate" in done.stdout


def test_words_are_another_unit() -> None:
    texts = ["one two three four five six", "One, two three four five six!", "six five four three two one"]
    assert list(dedup.minhash(0.9, unit="words", ngram=2)(prompts(texts))) == [None, "near duplicate", None]


def test_letter_case_and_space_do_not_count_and_empty_texts_are_equal() -> None:
    texts = ["Hello  World", "hello\nworld", "", "  ", "ab", "AB"]
    near = "near duplicate"
    assert list(dedup.minhash()(prompts(texts))) == [None, near, None, near, None, near]


def test_by_default_answers_count_so_that_two_answers_to_one_prompt_stay() -> None:
    pair = [Demonstration(prompt="Say a number.", completion=text) for text in ("It is forty-two.", "Ninety!")]
    assert list(dedup.minhash()(pair)) == [None, None]
    assert list(dedup.minhash(of="prompt")(pair)) == [None, "near duplicate"]


def test_a_thousand_equal_texts_leave_one() -> None:
    verdicts = list(dedup.minhash()(prompts(["the same words again and again"] * 1000)))
    assert verdicts.count(None) == 1
    assert verdicts[0] is None


@pytest.mark.parametrize(("threshold", "permutations"), [(0.5, 128), (0.8, 128), (0.9, 256), (1.0, 16), (0.1, 8)])
def test_bands_find_a_pair_at_the_threshold_where_that_can_be_had(threshold: float, permutations: int) -> None:
    bands, rows = bands_of(threshold, permutations)
    assert bands * rows <= permutations
    assert rows == 1 or 1 - (1 - threshold**rows) ** bands >= 0.99


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"threshold=0\).*above 0"):
        dedup.minhash(0)
    with pytest.raises(ConfigError, match="ngram=0"):
        dedup.minhash(ngram=0)
    with pytest.raises(ConfigError, match="permutations=0"):
        dedup.minhash(permutations=0)
    with pytest.raises(ConfigError, match="'characters' or 'words'"):
        dedup.minhash(unit="letters")  # type: ignore[arg-type]


def test_half_a_character_is_compared_as_what_it_is() -> None:
    texts = ["a lone \ud800 surrogate", "a lone \ud800 surrogate", "a lone \udfff surrogate"]
    assert list(dedup.minhash(0.9)(prompts(texts))) == [None, "near duplicate", None]


def test_without_rensa_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingExtra, match=r"pip install 'synthkd\[filters\]'"):
        dedup.minhash()
