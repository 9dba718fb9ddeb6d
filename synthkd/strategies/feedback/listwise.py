"""Permutations: the only place that has a judge put many texts in order, a window at a time.

The windows move from the back of the given order to its front, so that what is best is carried to the front in one
pass. Invariant: what a judge leaves out or says twice neither loses nor doubles a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema, create_model

from synthkd.strategies.branching import together
from synthkd.strategies.feedback.question import Question, Verdict, orders


@lru_cache(maxsize=256)
def permutation(count: int) -> type[BaseModel]:
    """The typed verdict of a judge on the order of several texts.

    Its schema asks for what guided decoding can hold to; any list of numbers is read, for it can be repaired.
    """
    number = {"type": "integer", "minimum": 1, "maximum": count}
    form = WithJsonSchema({"type": "array", "items": number, "minItems": count, "maxItems": count})
    about = "The numbers of all texts, the best one's first, each once."
    return create_model("Permutation", order=(Annotated[list[int], form], Field(description=about)))


def windows(count: int, window: int, stride: int) -> Iterator[range]:
    """The places of each window, from the back to the front; the last one begins at the first place."""
    start = max(count - window, 0)
    while True:
        yield range(start, min(start + window, count))
        if start == 0:
            return
        start = max(start - stride, 0)


def repaired(order: Sequence[int], count: int) -> list[int]:
    """A permutation of the numbers from 1 to `count`: duplicates and strangers dropped, missing ones put at the end.

    Where none of the numbers is known there is no order to speak of, and nothing is given back.
    """
    known = dict.fromkeys(number for number in order if 1 <= number <= count)
    return [*known, *(number for number in range(1, count + 1) if number not in known)] if known else []


async def listwise(
    question: Question, texts: Sequence[str], repeats: int, window: int, stride: int
) -> list[Verdict | None]:
    """The share of the others that each text stands before.

    Within a window the texts are shown in drawn orders, whose verdicts are averaged. A window nobody could read stays
    as it was.

    Reference: Sun et al. 2023, RankGPT, arXiv:2304.09542; Pradeep et al. 2023, RankVicuna, arXiv:2309.15088.
    """
    standing = list(range(len(texts)))
    heard = False
    for places in windows(len(texts), window, stride):
        inside = standing[places.start : places.stop]
        shares = await _window(question, [texts[place] for place in inside], repeats)
        if shares is None:
            continue
        heard = True
        if len(inside) == len(texts):
            return [Verdict(share) for share in shares]
        ranked = sorted(zip(shares, inside, strict=True), key=lambda pair: -pair[0])
        standing[places.start : places.stop] = [place for _, place in ranked]
    if not heard:
        return [None] * len(texts)
    found: list[Verdict | None] = [None] * len(texts)
    for behind, place in enumerate(reversed(standing)):
        found[place] = Verdict(behind / (len(texts) - 1))
    return found


async def _window(question: Question, texts: Sequence[str], repeats: int) -> list[float] | None:
    """The share of the others in the window that each of its texts stands before, over all orders that were heard."""

    async def one(order: tuple[int, ...], times: int) -> list[list[int]]:
        replies: list[Any] = await question.heard(form, times, answers=[texts[place] for place in order])
        wholes = [repaired(reply.value.order, len(texts)) for reply in replies]
        for reply, whole in zip(replies, wholes, strict=True):
            if whole != reply.value.order:
                question.ask.dropped["permutation repaired" if whole else "verdict without an order"] += 1
        return [[order[number - 1] for number in whole] for whole in wholes if whole]

    form = permutation(len(texts))
    drawn = orders(question.rng, len(texts), repeats)
    rankings = [ranking for heard in await together(one(*item) for item in drawn.items()) for ranking in heard]
    if not rankings:
        return None
    others = max(len(texts) - 1, 1)
    return [fmean((others - ranking.index(place)) / others for ranking in rankings) for place in range(len(texts))]
