"""Scores of single texts: the only place that asks a judge for numbers, one text a call or all of them in one.

Invariant: the reply's schema holds scale and number of texts, so a score beyond it or one too few is unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import fmean
from typing import Any

from pydantic import BaseModel, Field, create_model

from synthkd.strategies.branching import together
from synthkd.strategies.feedback.labels import chosen, with_logprobs
from synthkd.strategies.feedback.question import Question, Verdict, orders
from synthkd.strategies.feedback.rank import Rating


@lru_cache(maxsize=64)
def rating(low: int, high: int) -> type[BaseModel]:
    """The verdict on one text on a scale; on that from 1 to 5 it is `Rating`."""
    if (low, high) == (1, 5):
        return Rating
    reason = (str, Field(description="What is right or wrong with the text."))
    score = (int, Field(ge=low, le=high, description=f"From {low} (worst) to {high} (best)."))
    return create_model("Rating", reason=reason, score=score)


@lru_cache(maxsize=256)
def ratings(low: int, high: int, count: int) -> type[BaseModel]:
    """The verdicts on several texts that are shown together."""
    each: Any = list[rating(low, high)]  # type: ignore[misc]
    about = "One verdict for each text, in the order in which they are shown."
    return create_model("Ratings", ratings=(each, Field(min_length=count, max_length=count, description=about)))


async def each(
    question: Question, texts: Sequence[str | None], scale: tuple[int, int], repeats: int
) -> list[Verdict | None]:
    """One call for each text and repeat; the mean of those that can be read."""

    async def one(text: str | None) -> Verdict | None:
        replies: list[Any] = await question.heard(rating(*scale), repeats, answer=text)
        return _mean([(reply.value.score, reply.value.reason) for reply in replies])

    return await together(one(text) for text in texts)


async def expected(question: Question, texts: Sequence[str | None], scale: tuple[int, int]) -> list[Verdict | None]:
    """One call of one token for each text: the mean of the scale under the probabilities of its digits.

    Reference: Lee et al. 2023, RLAIF, arXiv:2309.00267 (direct rewards).
    """
    digits = tuple(map(str, range(scale[0], scale[1] + 1)))
    asking = replace(question, sampling=with_logprobs(question.sampling))

    async def one(text: str | None) -> Verdict | None:
        shares = await chosen(asking, digits, soft=True, answer=text)
        return None if shares is None else Verdict(sum(int(digit) * share for digit, share in shares.items()))

    return await together(one(text) for text in texts)


async def joint(
    question: Question, texts: Sequence[str | None], scale: tuple[int, int], repeats: int
) -> list[Verdict | None]:
    """All texts in one call, a call for each repeat, in another order each time.

    Reference: Cui et al. 2023, UltraFeedback, arXiv:2310.01377.
    """
    form = ratings(*scale, len(texts))

    async def one(order: tuple[int, ...], times: int) -> list[tuple[tuple[int, ...], list[Any]]]:
        replies: list[Any] = await question.heard(form, times, answers=[texts[place] for place in order])
        return [(order, reply.value.ratings) for reply in replies]

    drawn = orders(question.rng, len(texts), repeats)
    found: list[list[tuple[float, str]]] = [[] for _ in texts]
    for heard in await together(one(*item) for item in drawn.items()):
        for order, verdicts in heard:
            for place, verdict in zip(order, verdicts, strict=True):
                found[place].append((verdict.score, verdict.reason))
    return [_mean(heard) for heard in found]


def _mean(heard: Sequence[tuple[float, str]]) -> Verdict | None:
    if not heard:
        return None
    return Verdict(fmean(score for score, _ in heard), "\n\n".join(reason for _, reason in heard if reason))
