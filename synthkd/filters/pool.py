"""The pool of texts that new ones must differ from: the only place that finds the most similar of many texts.

Invariant: what it finds is what comparing with every text would find. Only texts are skipped whose shared words, in any
order, are too few for the score that is looked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from synthkd.errors import ConfigError
from synthkd.filters.parts import Of, checked_of, text_of
from synthkd.filters.rouge import BLOCK, common, f1, masks
from synthkd.filters.words import Tokens, rouge_tokens
from synthkd.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkd.filters.rules import Filter

_SLACK = 1e-9
"""Bounds are compared a little generously, because the score itself is rounded."""


def novelty(
    threshold: float = 0.7,
    against: Iterable[Record | str] = (),
    *,
    of: Of = "prompt",
    tokens: Tokens = rouge_tokens,
) -> Filter[Record]:
    """Keep the records whose text is new: of ROUGE-L F1 below the threshold with each seed and each record kept so far.

    Records stream; the texts that were kept stay in memory. A text without tokens is similar to none.

    Args:
        threshold: From this score on a record is "not novel"; above 0, at most 1.
        against: What must not be repeated, such as the seeds: records, of which `of` is taken, or texts.
        of: Which text is compared; see `Of`.
        tokens: What cuts texts into tokens. The default is `rouge_score`'s, which sees only a to z and 0 to 9; use
            `words` for other scripts, or all their texts count as new.

    Raises:
        ConfigError: The threshold makes no sense; while filtering, a record that has no such text.

    Reference: Wang et al. 2022, Self-Instruct, arXiv:2212.10560.
    """
    _checked(threshold, "novelty")
    checked_of(of, "novelty")
    return _Novelty(threshold, of, tokens, tuple(against) if isinstance(against, Iterator) else against)


@dataclass(frozen=True)
class _Novelty:
    threshold: float
    of: Of
    tokens: Tokens
    against: Iterable[Record | str] = field(repr=False)

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        known = (seed if isinstance(seed, str) else text_of(seed, self.of, "novelty") for seed in self.against)
        pool = Pool(known, tokens=self.tokens)
        for record in records:
            text = text_of(record, self.of, "novelty")
            if pool.similar(text, self.threshold):
                yield "not novel"
            else:
                pool.add(text)
                yield None


class Near(NamedTuple):
    """A text of the pool, and how similar it is."""

    score: float
    """ROUGE-L F1, 0 to 1."""
    text: str


class Pool:
    """A growing pool of texts, which knows the one most similar to another text by ROUGE-L F1.

    It finds candidates by an index from words to texts, and holds the texts, their tokens and that index.

    Args:
        texts: What it holds at first.
        tokens: What cuts texts into tokens; see `rouge_l`.
    """

    def __init__(self, texts: Iterable[str] = (), *, tokens: Tokens = rouge_tokens) -> None:
        self._cut = tokens
        self._texts: list[str] = []
        self._tokens: list[list[str]] = []
        self._lengths = array("q")
        self._holders: dict[tuple[str, int], array[int]] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Take a text in, whether or not it is similar to others."""
        cut = self._cut(text)
        for key in _counted(cut):
            holders = self._holders.get(key)
            if holders is None:
                holders = self._holders[key] = array("q")
            holders.append(len(self._texts))
        self._texts.append(text)
        self._tokens.append(cut)
        self._lengths.append(len(cut))

    def nearest(self, text: str) -> Near | None:
        """The most similar text, the earliest of several; `None` where none shares a word with this one."""
        best = [0.0, 0]
        for score, place in self._scored(text, best):
            if score > best[0] or (score == best[0] and place < best[1]):
                best[:] = score, place
        return Near(best[0], self._texts[int(best[1])]) if best[0] else None

    def similar(self, text: str, threshold: float) -> Near | None:
        """A text whose score reaches the threshold, not always the nearest; `None` where there is none.

        Raises:
            ConfigError: The threshold is not above 0, or above 1.
        """
        _checked(threshold, "similar")
        for score, place in self._scored(text, [threshold]):
            if score >= threshold:
                return Near(score, self._texts[place])
        return None

    def _scored(self, text: str, least: list[float]) -> Iterator[tuple[float, int]]:
        """Scores and places, the likeliest first, while one may reach `least[0]`, which the caller may raise."""
        cut = self._cut(text)
        if not cut or not self._texts:
            return
        places, bounds = self._candidates(cut, least[0])
        if not len(places):
            return
        bits = masks(cut) if len(cut) <= BLOCK else None
        for index in (-bounds).argsort(kind="stable").tolist():
            if bounds[index] + _SLACK < least[0]:
                return
            place = int(places[index])
            theirs = self._tokens[place]
            yield f1(common(cut, theirs, bits), len(cut), len(theirs)), place

    def _candidates(self, cut: list[str], least: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Texts, and the most that their score can be: its value if all shared words stood in the same order."""
        import numpy as np

        shared = np.zeros(len(self._texts), dtype=np.int64)
        for key in _counted(cut):
            if (holders := self._holders.get(key)) is not None:
                shared[np.frombuffer(holders, dtype=np.int64)] += 1
        lengths = np.frombuffer(self._lengths, dtype=np.int64)
        found = np.flatnonzero(2 * shared >= np.maximum((least - _SLACK) * (lengths + len(cut)), 1))
        return found, 2 * shared[found] / (lengths[found] + len(cut))


def _counted(cut: list[str]) -> Iterator[tuple[str, int]]:
    """Each token with how often it stood before, so that equal keys of two texts count their shared tokens."""
    seen: dict[str, int] = {}
    for token in cut:
        before = seen.get(token, 0)
        seen[token] = before + 1
        yield token, before


def _checked(threshold: float, who: str) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"{who}(threshold={threshold!r}): expected a ROUGE-L F1 above 0 and at most 1, such as 0.7.")
