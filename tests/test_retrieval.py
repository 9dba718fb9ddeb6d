"""Retrieval: BM25 and embeddings find what has to do with a text, in one order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters import first
from synthkd.filters.words import words
from synthkd.record import Document, Instruction
from synthkd.retrieval import BM25, Embedded, Index
from synthkd.run import Run

pytest.importorskip("bm25s", reason="needs bm25s: pip install 'synthkd[retrieval]'")

TEXTS = ["The cat sat on the mat.", "A dog and a cat.", "Stars are far away.", "猫がマットの上に座った。", ""]
DOCUMENTS = [Document(text=text) for text in TEXTS]


def counted(texts: list[str]) -> NDArray[np.float64]:
    return np.array([[text.lower().count(word) for word in ("cat", "dog", "star")] for text in texts], dtype=float)


BUILT: dict[str, Callable[[list[Document]], Index]] = {
    "bm25": BM25,
    "embedded": lambda documents: Embedded(documents, counted),
}


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_what_shares_most_comes_first_and_what_shares_nothing_not_at_all(
    build: Callable[[list[Document]], Index],
) -> None:
    found = build(DOCUMENTS).search("a cat and a dog", 5)
    assert [document.text for document, _ in found] == [TEXTS[1], TEXTS[0]]
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    assert build(DOCUMENTS).search("", 3) == build(DOCUMENTS).search("zebra", 3) == []


def test_rare_words_count_more_and_every_script_has_words() -> None:
    index = BM25(DOCUMENTS)
    assert index.search("the far away cat", 1)[0][0].text == TEXTS[2]
    assert index.search("猫", 1)[0][0].text == TEXTS[3]


def test_a_title_is_searched_too() -> None:
    index = BM25([Document(text="It has stripes."), Document(text="It has spots.", title="The leopard")])
    assert index.search("leopard", 2)[0][0].text == "It has spots."


def test_of_equal_scores_the_earlier_document_comes_first() -> None:
    documents = [Document(text="the same words", source=str(number)) for number in range(50)]
    for index in (BM25(documents), Embedded(documents, lambda texts: np.ones((len(texts), 2)))):
        assert [document.source for document, _ in index.search("same", 3)] == ["0", "1", "2"]


@given(
    st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdef")),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_bm25_by_its_formula(texts: list[list[str]], query: list[str]) -> None:
    found = {
        d.source: s
        for d, s in BM25([Document(text=" ".join(t), source=str(n)) for n, t in enumerate(texts)]).search(
            " ".join(query), len(texts)
        )
    }
    mean = sum(max(len(text), 1) for text in texts) / len(texts)
    for number, text in enumerate(texts):
        score = 0.0
        for word in query:
            holders = sum(word in other for other in texts)
            idf = np.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
            often = text.count(word)
            score += idf * often / (often + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean)) if often else 0.0
        assert found.get(str(number), 0.0) == pytest.approx(score, abs=1e-4)


def test_the_order_is_the_same_in_every_process() -> None:
    texts = [" ".join(f"w{(n * k) % 13}" for k in range(1, 9)) for n in range(60)]
    script = (
        "import json, sys\nfrom synthkd.retrieval import BM25\nfrom synthkd.record import Document\n"
        "index = BM25([Document(text=text) for text in json.load(sys.stdin)])\n"
        "print(json.dumps([(d.text, s) for d, s in index.search('w1 w2 w3', 20)]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    here = BM25([Document(text=text) for text in texts]).search("w1 w2 w3", 20)
    assert json.loads(outputs.pop()) == [[document.text, score] for document, score in here]


def test_nothing_is_read_or_embedded_before_the_first_search_and_then_once() -> None:
    read: list[Document] = []
    embedded: list[str] = []

    def documents() -> Iterator[Document]:
        for document in DOCUMENTS:
            read.append(document)
            yield document

    def embed(texts: list[str]) -> NDArray[np.float64]:
        embedded.extend(texts)
        return counted(texts)

    index = Embedded(documents(), embed, embed_query=counted, batch=2)
    assert not read
    threads = [threading.Thread(target=index.search, args=("cat", 2)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == DOCUMENTS
    assert embedded == TEXTS
    assert index.named(DOCUMENTS[2].id) == DOCUMENTS[2]
    assert index.named("nobody") is None
    assert index.documents == tuple(DOCUMENTS)


def test_a_stage_of_documents_is_searched_like_a_list(tmp_path: Path) -> None:
    with Run(tmp_path / "run", quiet=True) as run:
        stage = run.filter(first(3), DOCUMENTS)
        assert BM25(stage).search("cat dog", 2) == BM25(DOCUMENTS[:3]).search("cat dog", 2)


def test_a_text_of_a_million_characters_is_searched_for_in_moments() -> None:
    assert BM25(DOCUMENTS).search("cat " * 250_000, 1)[0][0] in DOCUMENTS[:2]
    assert BM25([Document(text="cat " * 250_000)]).search("cat", 1)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ConfigError, match="no documents to search"):
        BM25([]).search("a", 1)
    with pytest.raises(ConfigError, match="document 1 is a Instruction"):
        BM25([Instruction(prompt="a")]).search("a", 1)  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="at least 1 document"):
        BM25(DOCUMENTS).search("a", 0)
    with pytest.raises(ConfigError, match="batch=0"):
        Embedded(DOCUMENTS, counted, batch=0)
    with pytest.raises(ConfigError, match="gave 2 dimensions and embed"):
        Embedded(DOCUMENTS, counted, embed_query=lambda texts: [[1.0, 2.0]]).search("a", 1)
    with pytest.raises(ConfigError, match=r"embed\(\) gave Embedded\(\)"):
        Embedded(DOCUMENTS, lambda texts: [1.0]).search("a", 1)


def test_words_may_be_cut_in_another_way() -> None:
    index = BM25(DOCUMENTS, tokens=lambda text: [word[:3] for word in words(text)])
    assert index.search("starling", 1)[0][0].text == TEXTS[2]


def test_without_bm25s_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"pip install 'synthkd\[retrieval\]'"):
        BM25(DOCUMENTS)
