"""Novelty: the scores of `rouge_score`, found without comparing everything with everything."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError
from synthkd.filters import Near, Pool, novelty, rouge_l, rouge_tokens, stemmed, words
from synthkd.filters.rouge import common
from synthkd.record import Instruction
from synthkd.request import Message

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="needs rouge-score: pip install 'synthkd[dev]'")
REFERENCE = rouge_scorer.RougeScorer(["rougeL"])

FEW_WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "Dog", "ON", "mat,", "it's", "3.5", "naïve", "猫", "runs"]), max_size=12
)
TEXTS = st.one_of(FEW_WORDS.map(" ".join), st.text(max_size=40))


def reference(a: str, b: str) -> float:
    return float(REFERENCE.score(a, b)["rougeL"].fmeasure)


@given(TEXTS, TEXTS)
def test_a_score_is_the_float_that_rouge_score_gives(a: str, b: str) -> None:
    assert rouge_l(a, b) == reference(a, b)
    assert rouge_l(b, a) == rouge_l(a, b)


@given(FEW_WORDS, FEW_WORDS)
@settings(max_examples=30)
def test_a_stemmed_score_is_the_float_that_rouge_score_gives_with_its_stemmer(a: list[str], b: list[str]) -> None:
    porter = pytest.importorskip("nltk.stem.porter", reason="needs nltk, which comes with rouge-score").PorterStemmer()
    theirs = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True).score(" ".join(a), " ".join(b))["rougeL"].fmeasure
    assert rouge_l(" ".join(a), " ".join(b), tokens=stemmed(porter.stem)) == theirs


@given(st.lists(TEXTS, max_size=8), TEXTS, st.sampled_from([0.2, 0.5, 2 / 3, 0.7, 1.0]))
def test_the_pool_finds_what_comparing_with_every_text_finds(texts: list[str], text: str, threshold: float) -> None:
    pool = Pool(texts)
    scores = [reference(text, other) for other in texts]
    best = max(scores, default=0.0)
    assert pool.nearest(text) == (Near(best, texts[scores.index(best)]) if best else None)
    found = pool.similar(text, threshold)
    assert (found is not None) == (best >= threshold)
    if found:
        assert found.score == reference(text, found.text) >= threshold


@given(st.lists(TEXTS, max_size=10), st.lists(TEXTS, max_size=3), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_the_verdicts_are_those_of_the_loop_with_rouge_score(texts: list[str], seeds: list[str], limit: float) -> None:
    pool, expected = list(seeds), []
    for text in texts:
        new = max((reference(text, other) for other in pool), default=0.0) < limit
        expected.append(None if new else "not novel")
        if new:
            pool.append(text)
    assert list(novelty(limit, seeds)([Instruction(prompt=text) for text in texts])) == expected


def test_long_texts_get_the_same_score_too() -> None:
    rng = random.Random(1)
    some = [" ".join(rng.choices(["red", "green", "blue", "x1", "x2"], k=rng.randint(100, 300))) for _ in range(6)]
    assert all(rouge_l(a, b) == reference(a, b) for a in some for b in some)


@given(FEW_WORDS, FEW_WORDS, st.integers(1, 5))
def test_blocks_of_any_size_give_the_same_length(a: list[str], b: list[str], size: int) -> None:
    whole = common(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthkd.filters.rouge.BLOCK", size)
        assert common(a, b) == common(b, a) == whole


def test_two_texts_of_a_million_characters_are_compared_in_moments() -> None:
    rng = random.Random(1)
    cut = [f"word{rng.randrange(20_000)}" for _ in range(110_000)]
    changed = [f"other{rng.randrange(9)}" if place % 1000 == 500 else token for place, token in enumerate(cut)]
    began = time.process_time()
    assert rouge_l(" ".join(cut), " ".join(changed)) == pytest.approx(0.999, abs=1e-6)
    assert time.process_time() - began < 10


def test_seeds_may_be_records_and_are_compared_by_the_same_text() -> None:
    seeds = [Instruction(prompt=(Message("system", "You are kind."), Message("user", "Name three primary colours.")))]
    records = [Instruction(prompt=p) for p in ("Name three primary colours!", "Write a poem about rain.")]
    assert list(novelty(0.9, seeds, of="instruction")(records)) == ["not novel", None]
    assert list(novelty(0.9, seeds)(records)) == [None, None]


def test_seeds_from_a_generator_serve_every_call() -> None:
    rule = novelty(0.7, (text for text in ["Name three primary colours."]))
    record = [Instruction(prompt="Name three primary colours")]
    assert list(rule(record)) == list(rule(record)) == ["not novel"]


def test_the_pool_grows_with_what_is_kept_and_not_with_what_is_dropped() -> None:
    texts = ("one two three four five", "one two three four six", "one two three seven six")
    records = [Instruction(prompt=text) for text in texts]
    assert list(novelty(0.8)(records)) == [None, "not novel", None]


def test_other_scripts_need_another_tokenizer() -> None:
    records = [Instruction(prompt=text) for text in ("写一首关于秋天的诗", "写一首关于秋天的诗。")]
    assert list(novelty()(records)) == [None, None]
    assert list(novelty(tokens=words)(records)) == [None, "not novel"]


def test_a_pool_says_how_large_it_is_and_takes_the_same_text_twice() -> None:
    pool = Pool(["a b", "a b"])
    pool.add("")
    assert len(pool) == 3
    assert pool.nearest("a b") == Near(1.0, "a b")
    assert pool.nearest("") is None
    assert pool.nearest("zebra") is None
    assert Pool().similar("a b", 0.5) is None


@pytest.mark.parametrize("threshold", [0, -0.1, 1.5, float("nan")])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a ROUGE-L F1 above 0 and at most 1, such as 0\.7"):
        novelty(threshold)
    with pytest.raises(ConfigError, match="expected a ROUGE-L F1"):
        Pool().similar("a", threshold)


def test_the_tokens_are_those_of_rouge_score() -> None:
    assert rouge_tokens("İt's Naïve: 3.50\n\u212a猫_x") == ["i", "t", "s", "na", "ve", "3", "50", "k", "x"]
