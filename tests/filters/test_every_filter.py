"""What holds for every filter: the ledger, the same verdicts again, and any text."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthkd import Run, filters
from synthkd.errors import ConfigError
from synthkd.filters import (
    Filter,
    agreement,
    balance,
    decontaminate,
    dedup,
    each,
    every,
    first,
    formatted,
    keywords,
    language,
    length,
    margin,
    no_refusal,
    novelty,
    numbers,
    opening,
    programs,
    quota,
    repetition,
    score,
    words,
)
from synthkd.record import Preference
from synthkd.testing import FunctionTeacher
from synthkd.verify import Sandbox


def counted(texts: list[str]) -> Any:
    """An embedding of no meaning: how often each of sixteen kinds of letter stands in a text."""
    return np.array([np.bincount([ord(letter) % 16 for letter in text], minlength=16) for text in texts])


def chosen_size(record: Preference) -> int:
    return len(record.chosen)


RULES: dict[str, Callable[[], Filter[Any]]] = {
    "agreement": lambda: agreement(0.6),
    "balance": lambda: balance("kind"),
    "clusters": lambda: dedup.clusters(lambda pairs: [a[:1] == b[:1] for a, b in pairs], within="kind"),
    "decontaminate": lambda: decontaminate(["one two three four"], ngram=3, shortest=2),
    "each": lambda: each(lambda record: len(record.chosen) % 2 == 0, "odd"),
    "embedding": lambda: dedup.embedding(counted, batch=7),
    "every": lambda: every(opening(), novelty(0.5), dedup.exact(), first(5)),
    "exact": lambda: dedup.exact("prompt"),
    "first": lambda: first(3),
    "formatted": lambda: formatted(starts="a", ends="b", pattern="c", is_json=True, code=True),
    "k_center": lambda: dedup.k_center(counted, 3),
    "keywords": lambda: keywords(forbid=["one"], need=["two"]),
    "length": lambda: length(min_words=1, max_chars=20),
    "margin": lambda: margin(0.5),
    "no_refusal": no_refusal,
    "novelty": lambda: novelty(0.5, ["one two three"]),
    "novelty of words": lambda: novelty(0.5, tokens=words),
    "numbers": lambda: numbers(same=True),
    "opening": lambda: opening(ascii_only=True),
    "quota": lambda: quota("kind", 2),
    "repetition": lambda: repetition(ngram=2),
    "score": lambda: score("score_chosen", at_least=0.2),
    "score, the top": lambda: score(chosen_size, top=0.5, within="kind"),
}
if find_spec("py3langid"):
    RULES["language"] = lambda: language("en")
if find_spec("rensa"):
    RULES["minhash"] = lambda: dedup.minhash(0.5)
    RULES["minhash of words"] = lambda: dedup.minhash(0.5, unit="words", ngram=2)


def boxed() -> bool:
    """Whether programs can be run here."""
    try:
        Sandbox().ready()
    except ConfigError:
        return False
    return True


if boxed():
    RULES["programs"] = lambda: programs(of="chosen")
OPTIONAL = {"language", "minhash", "programs"}
"""They need a package, or a sandbox."""
NO_FILTERS = {"By", "Filter", "Near", "Of", "Pool", "dedup", "rouge_l", "rouge_tokens", "stemmed", "words"}
DEMONSTRATIONS_ONLY = {"verify"}
"""It takes no other records; see `test_rules.py`."""

LONG = 1_000_000
ODD = (
    "",
    " ",
    "one",
    "👩‍👩‍👧 🏳️‍🌈 emoji",
    "שלום עולם، مرحبا",
    "\u0301\u0327 lone accents e\u0301",
    "\x00\u200b\ufeff\u2028",
    "ﬁ Ⅷ ㍿ İı ß",
    "한국어 ภาษาไทย 中文 日本語",
    "\ufffd\U0010ffff",
)
HUGE = {
    "words": " ".join(f"word{number % 7919}" for number in range(LONG // 9)),
    "one letter": "a" * LONG,
    "spaces": " " * LONG + "x",
    "digits": "1," * (LONG // 2) + "1111",
    "brackets": "[" * LONG,
    "fences": "``` " + " " * LONG + "`\n" + "```\n" * (LONG // 10),
    "chinese": "量子力学的基本概念" * (LONG // 9),
}


@pytest.mark.skipif(not boxed(), reason="needs bubblewrap that may make namespaces")
def test_programs_of_any_script_and_length_run_or_are_rejected_with_a_reason() -> None:
    chosen = [
        "print('👩‍👩‍👧 שלום')",
        "print(1) #" + "é" * LONG,
        "x = '\ud800'",
        "x = 1 /",
        "x = [" * 1000 + "\nimport os",
    ]
    began = time.process_time()
    verdicts = list(programs(of="chosen")(preference("p", f"```python\n{code}\n```") for code in chosen))
    assert verdicts == [None, None, None, "program failed", "program failed"]
    assert time.process_time() - began < 5


def preference(prompt: str, chosen: str, rejected: str = "x", kind: Any = "x", score: float | None = 1.0) -> Preference:
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, meta={"kind": kind}, score_chosen=score)


texts = st.one_of(st.sampled_from([*ODD, "one two three", "one two three four"]), st.text(max_size=30))
kinds = st.sampled_from(["x", "y", None, 1, 1.5])
preferences = st.builds(preference, texts, texts, texts, kinds, st.one_of(st.none(), st.floats(allow_nan=False)))


def test_every_exported_filter_is_here() -> None:
    known = {name.partition(",")[0].partition(" of ")[0] for name in RULES}
    found = {*filters.__all__, *dedup.__all__}
    assert known | OPTIONAL == found - NO_FILTERS - DEMONSTRATIONS_ONLY, "add new filters to RULES"


@pytest.mark.parametrize("name", RULES)
@given(records=st.lists(preferences, max_size=12))
@settings(max_examples=15, deadline=None)
def test_one_verdict_a_record_and_the_same_again(name: str, records: list[Preference]) -> None:
    rule = RULES[name]()
    before = [record.id for record in records]
    verdicts = list(rule(iter(records)))
    assert len(verdicts) == len(records)
    assert all(verdict is None or (isinstance(verdict, str) and verdict) for verdict in verdicts)
    assert [record.id for record in records] == before
    assert list(rule(records)) == verdicts
    assert list(RULES[name]()(records)) == verdicts


@pytest.mark.parametrize("name", RULES)
def test_no_record_and_one_record(name: str) -> None:
    assert list(RULES[name]()([])) == []
    for text in ODD:
        assert len(list(RULES[name]()([preference(text, text, text)]))) == 1


@pytest.mark.parametrize(
    "name", sorted(RULES.keys() - {"embedding", "k_center"})
)  # their time is the user's function's
def test_a_text_of_a_million_characters_takes_no_more_than_moments(name: str) -> None:
    rule = RULES[name]()
    for kind, text in HUGE.items():
        records = [preference(text, "x"), preference("y", text)]
        began = time.process_time()
        assert len(list(rule(records))) == 2
        took = time.process_time() - began
        assert took < 5, f"{kind}: {took:.1f} s"


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(preferences, min_size=1, max_size=10))
def test_the_ledger_of_a_run_adds_up_for_every_filter(tmp_path_factory: Any, records: list[Preference]) -> None:
    folder: Path = tmp_path_factory.mktemp("runs")
    with Run(folder / "run", teacher=FunctionTeacher(lambda request: ""), quiet=True) as run:
        for name, make in RULES.items():
            kept = run.filter(make(), records, name=name)
            rejected = sum(kept.ledger.rejected.values())
            assert kept.ledger.records_in == len(records) == len(kept) + rejected, name


def test_a_filter_describes_itself_the_same_in_every_process_and_briefly() -> None:
    for name, make in RULES.items():
        described = repr(make())
        assert len(described) < 400, (name, described)
        if "lambda" not in described and "function" not in described:
            assert " at 0x" not in described


STREAMING = ("decontaminate", "each", "exact", "first", "formatted", "keywords", "length", "margin", "no_refusal",
             "novelty", "numbers", "opening", "quota", "repetition", "score", "agreement")  # fmt: skip


@pytest.mark.parametrize("name", STREAMING)
def test_what_needs_no_more_than_the_record_takes_no_more(name: str) -> None:
    taken = []

    def records() -> Iterator[Preference]:
        for number in range(100):
            taken.append(number)
            yield Preference(
                prompt=f"p{number}", chosen=str(number), rejected="r", meta={"kind": number}, score_chosen=1.0
            )

    next(RULES[name]()(records()))
    assert taken == [0]


def test_the_filters_are_imported_without_the_libraries_that_some_need() -> None:
    script = "import sys, synthkd.filters; print({'numpy', 'py3langid', 'rensa', 'math_verify'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
