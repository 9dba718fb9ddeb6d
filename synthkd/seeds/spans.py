"""Spans: the only place that cuts passages and snippets out of documents.

Invariant: a span is a piece of its document as it stands there, and names it as its parent; where it lies is in `meta`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, Literal, TypeVar

from synthkd.errors import ConfigError
from synthkd.filters.words import UNSPACED
from synthkd.record import Document

D = TypeVar("D", bound=Document)

Units = Callable[[str], Iterable[tuple[int, int]]]
"""Where in a text its units lie: start and end of each, in characters, in order."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]++")
_STOP = re.compile(r"(?<![.!?…])[.!?…]++[\"')\]”’»]*+(?=\s|\Z)|[。！？]++[」』”’]*+|\n[^\S\n]*+\n")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|fig|eq|cf|al|e\.g|i\.e)|\b[^\W\d_])\.\Z", re.IGNORECASE
)


def chunks(
    documents: D | Iterable[D],
    size: int,
    of: Literal["characters", "words", "sentences", "lines"] | Units = "words",
    *,
    overlap: int = 0,
) -> Iterator[D]:
    """Cut documents into passages, one after the other; `meta` has `start` and `end`, in characters.

    Args:
        documents: one, or any iterable of them. A document without text gives nothing.
        size: units in a passage, at most.
        of: the unit. Scripts without spaces have a word a character. Characters are cut between words where one ends in
            the second half of a passage. For tokens, give a function that says where they lie, such as
            `lambda text: tokenizer(text, return_offsets_mapping=True)["offset_mapping"]`.
        overlap: units that a passage shares with the one before it.

    Raises:
        ConfigError: the size is less than 1, or the overlap is not less than the size.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ConfigError(
            f"chunks(size={size}, overlap={overlap}): expected size of at least 1, overlap from 0 to size - 1"
        )
    if of != "characters" and not callable(of) and of not in _UNITS:
        raise ConfigError(f"chunks(of={of!r}): expected characters, {', '.join(_UNITS)}, or a function of the text")
    return (
        _piece(document, document.text[start:end], start=start, end=end)
        for document in _each(documents)
        for start, end in (
            _by_characters(document.text, size, overlap)
            if of == "characters"
            else _windows(of if callable(of) else _UNITS[of], document.text, size, overlap)
        )
    )


def snippets(documents: D | Iterable[D], n: int = 1, *, lines: tuple[int, int] = (1, 15), seed: int = 0) -> Iterator[D]:
    """Take runs of lines out of documents at random; `meta` has `first_line` and `last_line`, counted from 1.

    A run begins at a line that is not blank. What is taken of a document depends on nothing but the document and the
    seed.

    Args:
        documents: one, or any iterable of them. One with too few lines gives nothing.
        n: runs from each document, with different first lines; fewer where it has not so many.
        lines: the least and the greatest length of a run.
        seed: what the choice derives from.

    Raises:
        ConfigError: `n` is less than 1, or the lines are no range.

    Reference: Wei et al. 2023, Magicoder (OSS-Instruct), arXiv:2312.02120.
    """
    least, most = lines
    if n < 1 or not 1 <= least <= most:
        raise ConfigError(f"snippets(n={n}, lines={lines}): expected n of at least 1, and lines such as (1, 15)")
    return (
        _piece(document, text, first_line=first, last_line=last)
        for document in _each(documents)
        for first, last, text in _runs(document, n, least, most, seed)
    )


def _each(documents: D | Iterable[D]) -> Iterable[D]:
    return (documents,) if isinstance(documents, Document) else documents


def _piece(document: D, text: str, **where: int) -> D:
    meta = {**document.meta, **where}
    return document.model_copy(update={"text": text, "parents": (document.id,), "meta": meta})


def _runs(document: Document, n: int, least: int, most: int, seed: int) -> Iterator[tuple[int, int, str]]:
    lines = document.text.split("\n")
    if not lines[-1].strip():
        lines.pop()
    starts = [place for place in range(len(lines) - least + 1) if lines[place].strip()]
    rng = Random(f"{seed}:{document.id}")
    for start in rng.sample(starts, min(n, len(starts))):
        end = start + rng.randint(least, min(most, len(lines) - start))
        yield start + 1, end, "\n".join(lines[start:end])


def _windows(units: Units, text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    found = [(start, end) for start, end in units(text) if start < end]
    for first in range(0, len(found), size - overlap):
        yield found[first][0], found[min(first + size, len(found)) - 1][1]
        if first + size >= len(found):
            return


def _by_characters(text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    start, whole = 0, len(text.rstrip())
    while (start := _after_space(text, start, whole)) < whole:
        end = min(start + size, whole)
        if end < whole and not text[end].isspace():
            end = _word_s_end(text, end, start + max(overlap, size // 2))
        yield start, start + len(text[start:end].rstrip())
        if end == whole:
            return
        start = end if not overlap else _word_s_start(text, end - overlap, end)


def _after_space(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _word_s_end(text: str, end: int, least: int) -> int:
    """The last place after `least` at which a word has ended, or the end."""
    return next((place for place in range(end - 1, least, -1) if text[place].isspace()), end)


def _word_s_start(text: str, start: int, end: int) -> int:
    """The first place from `start` at which a word begins, or the start itself where none does before the end."""
    return next((place for place in range(start, end) if text[place - 1].isspace()), start)


def _words(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in _WORD.finditer(text))


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.split("\n"):
        if line.strip():
            yield start, start + len(line)
        start += len(line) + 1


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """By stops that a space follows, and blank lines; an abbreviation, or a small letter behind it, ends nothing."""
    start = 0
    for found in _STOP.finditer(text):
        if not _goes_on(text, start, found):
            yield from _trimmed(text, start, found.end())
            start = found.end()
    yield from _trimmed(text, start, len(text))


def _goes_on(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether the sentence goes on behind what looks like its end."""
    if stop[0][0] in "。！？\n":
        return False
    after = _after_space(text, stop.end(), len(text))
    if after == len(text):
        return False
    dot = stop.start() + 1
    return text[after].islower() or _ABBREVIATION.search(text, max(start, dot - 8), dot) is not None


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    start = _after_space(text, start, end)
    if start < end:
        yield start, start + len(text[start:end].rstrip())


_UNITS: dict[str, Any] = {"words": _words, "sentences": _sentences, "lines": _lines}
