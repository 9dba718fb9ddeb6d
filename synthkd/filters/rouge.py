"""ROUGE-L: the only place that scores how much two texts share in order, exactly as the `rouge_score` package does.

Invariant: `rouge_l(a, b)` is the very float that `RougeScorer(["rougeL"]).score(a, b)["rougeL"].fmeasure` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synthkd.filters.words import Tokens, rouge_tokens

BLOCK = 1 << 14
"""Tokens whose bits are worked on at a time: masks of more would not fit into memory."""


def rouge_l(a: str, b: str, *, tokens: Tokens = rouge_tokens) -> float:
    """The F1 of ROUGE-L of two texts, 0 to 1; it is symmetric.

    Args:
        a: One text.
        b: The other.
        tokens: What cuts texts into tokens. The default is `rouge_score`'s own, which knows only a to z and 0 to 9;
            `words` knows every script.

    Reference: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries.
    """
    ours, theirs = tokens(a), tokens(b)
    return f1(common(ours, theirs), len(ours), len(theirs))


def f1(shared: int, ours: int, theirs: int) -> float:
    """The F1 of so many shared tokens of two texts, in the order of operations that `rouge_score` has."""
    if not shared:
        return 0.0
    precision, recall = shared / ours, shared / theirs
    return 2 * precision * recall / (precision + recall)


def masks(tokens: Sequence[str]) -> dict[str, int]:
    """For each token the places where it stands, as the bits of a number."""
    found: dict[str, int] = {}
    for place, token in enumerate(tokens):
        found[token] = found.get(token, 0) | 1 << place
    return found


def common(ours: Sequence[str], theirs: Sequence[str], places: Mapping[str, int] | None = None) -> int:
    """The length of the longest common subsequence of two lists of tokens.

    A row of the dynamic programme is one number, so a token costs a few operations on as many bits as the other text
    has tokens. Long texts go block by block, with the carries of each row kept between blocks, and without equal ends.

    Args:
        ours: The tokens of one text.
        theirs: The tokens of the other.
        places: The `masks` of `ours`, where they are at hand; of no use for texts longer than `BLOCK`.

    Reference: Hyyrö 2004, Bit-parallel LCS-length computation revisited.
    """
    if len(ours) > BLOCK:
        begin, end = _equal_ends(ours, theirs)
        return begin + end + _by_blocks(ours[begin : len(ours) - end], theirs[begin : len(theirs) - end])
    everything = row = (1 << len(ours)) - 1
    for here in map((places or masks(ours)).get, theirs):
        if here:
            hit = row & here
            row = ((row + hit) | (row - hit)) & everything
    return len(ours) - row.bit_count()


def _by_blocks(ours: Sequence[str], theirs: Sequence[str]) -> int:
    shared = 0
    carries = bytearray(len(theirs))
    for begin in range(0, len(ours), BLOCK):
        block = ours[begin : begin + BLOCK]
        places = masks(block)
        everything = row = (1 << len(block)) - 1
        for number, token in enumerate(theirs):
            hit = row & places.get(token, 0)
            above = row + hit + carries[number]
            carries[number] = above > everything
            row = (above | (row - hit)) & everything
        shared += len(block) - row.bit_count()
    return shared


def _equal_ends(ours: Sequence[str], theirs: Sequence[str]) -> tuple[int, int]:
    """How many tokens are the same at the begin and, of the others, at the end."""
    least = min(len(ours), len(theirs))
    begin = next((place for place in range(least) if ours[place] != theirs[place]), least)
    end = next((place for place in range(least - begin) if ours[-1 - place] != theirs[-1 - place]), least - begin)
    return begin, end
