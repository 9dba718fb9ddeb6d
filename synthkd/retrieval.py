"""Retrieval: the only place that finds documents for a text, by the words in common (BM25) or by embeddings.

An index is built when it is first searched, and holds its documents. Invariant: the same documents and the same text
give the same result in every process; of equal scores the earlier document comes first.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters.dedup.vectors import Embed, unit_vectors
from synthkd.filters.words import Tokens, words
from synthkd.record import Document

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]


class Index(ABC):
    """Documents that can be searched; `BM25` and `Embedded` are two. Threads may share one.

    Args:
        documents: what is found, such as a list, `data.read(...)` or a stage; read once, at the first search.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._given = documents
        self._lock = threading.RLock()

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, in the order in which they were given."""
        with self._lock:
            return self._read

    def named(self, id: str) -> Document | None:
        """The document with this id."""
        with self._lock:
            return self._by_id.get(id)

    def search(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The best `k` documents for a text and their scores, the best first; fewer where fewer have to do with it.

        Raises:
            ConfigError: `k` is less than 1, or there are no documents.
        """
        if k < 1:
            raise ConfigError(f"search(k={k}): expected at least 1 document to find")
        with self._lock:
            found = self._scores(text)
        return [(self._read[place], float(found[place])) for place in _highest(found, k)]

    @cached_property
    def _read(self) -> tuple[Document, ...]:
        found = tuple(self._given)
        self._given = ()
        for number, document in enumerate(found, 1):
            if not isinstance(document, Document):
                raise ConfigError(
                    f"{type(self).__name__}: document {number} is a {type(document).__name__}, expected a Document, "
                    "such as synthkd.data.read(...) gives of a column `text`"
                )
        if not found:
            raise ConfigError(f"{type(self).__name__}([]): there are no documents to search; expected at least one")
        return found

    @cached_property
    def _by_id(self) -> dict[str, Document]:
        return {document.id: document for document in reversed(self._read)}

    @abstractmethod
    def _scores(self, text: str) -> Scores:
        """The score of each document; nothing above 0 is no result."""


class BM25(Index):
    """Documents by the words that a text shares with them, rare words before frequent ones; by bm25s.

    Args:
        documents: what is found; title and text of each count.
        tokens: what cuts a text into words; by default lower-case words of every script.
        k1: from how many repeats on a word counts no more.
        b: how much the length of a document counts, 0 to 1.

    Raises:
        MissingExtra: bm25s is not installed.

    Reference: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond; Lu 2024, BM25S,
        arXiv:2407.03618.
    """

    def __init__(
        self, documents: Iterable[Document], *, tokens: Tokens = words, k1: float = 1.5, b: float = 0.75
    ) -> None:
        super().__init__(documents)
        self._tokens = tokens
        self._weights = {"k1": k1, "b": b}
        _bm25s()

    def _scores(self, text: str) -> Scores:
        import numpy as np

        asked = self._tokens(text)
        found: Scores = self._built.get_scores(asked) if asked else np.zeros(len(self._read), dtype=np.float32)
        return found

    @cached_property
    def _built(self) -> Any:
        built = _bm25s().BM25(backend="numpy", csc_backend="numpy", **self._weights)
        cut = [self._tokens(_whole(document)) for document in self._read]
        built.index([found or [""] for found in cut], show_progress=False)
        return built


class Embedded(Index):
    """Documents by the cosine of their embedding with that of a text.

    Args:
        documents: what is found; title and text of each count.
        embed: from texts to an array of shape (texts, dimensions), such as `scoring.Embedder(...)`.
        embed_query: the same for what is searched for, where a model wants that told apart.
        batch: documents that are embedded at a time.

    Reference: Karpukhin et al. 2020, Dense Passage Retrieval, arXiv:2004.04906.
    """

    def __init__(
        self, documents: Iterable[Document], embed: Embed, *, embed_query: Embed | None = None, batch: int = 256
    ) -> None:
        if batch < 1:
            raise ConfigError(f"Embedded(batch={batch}): expected at least 1 document at a time")
        super().__init__(documents)
        self._embed = embed
        self._embed_query = embed_query or embed
        self._batch = batch

    def _scores(self, text: str) -> Scores:
        [[query]] = unit_vectors(self._embed_query, [text], 1, "Embedded")
        if len(query) != self._vectors.shape[1]:
            raise ConfigError(
                f"Embedded: embed_query() gave {len(query)} dimensions and embed() {self._vectors.shape[1]}; expected "
                "as many"
            )
        found: Scores = self._vectors @ query
        return found

    @cached_property
    def _vectors(self) -> Scores:
        import numpy as np

        return np.concatenate(list(unit_vectors(self._embed, map(_whole, self._read), self._batch, "Embedded")))


def _highest(scores: Scores, k: int) -> list[int]:
    """The places of the k highest scores above 0, the highest first, of equal ones the first."""
    import numpy as np

    places = np.flatnonzero(scores > 0)
    if len(places) > k:
        least = np.partition(scores[places], -k)[-k]
        places = places[scores[places] >= least]
    chosen: list[int] = places[np.argsort(-scores[places], kind="stable")][:k].tolist()
    return chosen


def _whole(document: Document) -> str:
    return f"{document.title}\n{document.text}" if document.title else document.text


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise MissingExtra("bm25s", "retrieval") from None
    return bm25s
