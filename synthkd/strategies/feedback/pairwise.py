"""Comparisons: the only place that puts texts before a judge two at a time.

Invariant: every pair is shown in both orders, and a verdict that changes with the order is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from synthkd.strategies.branching import together
from synthkd.strategies.feedback.question import Question, Verdict

_POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}


class Comparison(BaseModel):
    """The typed verdict of a judge on two texts."""

    reason: str = Field(description="What tells the two apart.")
    better: Literal["first", "second", "tie"] = Field(description="Which of the two is better, or that neither is.")


async def pairwise(question: Question, texts: Sequence[str], repeats: int) -> list[Verdict | None]:
    """The share of the others that each text beats; a tie is half a win.

    Reference: Zheng et al. 2023, LLM-as-a-Judge, arXiv:2306.05685; Wang et al. 2023, PandaLM, arXiv:2306.05087.
    """
    pairs = list(combinations(range(len(texts)), 2))
    games = await together(_game(question, texts[a], texts[b], repeats) for a, b in pairs)
    points: list[list[float]] = [[] for _ in texts]
    agreed: list[list[float]] = [[] for _ in texts]
    for (a, b), outcomes in zip(pairs, games, strict=True):
        if outcomes:
            won = fmean(point for point, _ in outcomes)
            points[a].append(won)
            points[b].append(1.0 - won)
            for place in (a, b):
                agreed[place].append(fmean(same for _, same in outcomes))
    return [
        Verdict(fmean(won), agreement=fmean(same)) if won else None for won, same in zip(points, agreed, strict=True)
    ]


async def _game(question: Question, one: str, other: str, repeats: int) -> list[tuple[float, bool]]:
    """For each repeat heard in both orders: the first text's points, and whether the orders agreed."""
    there, back = await together(
        question.heard(Comparison, repeats, first=first, second=second)
        for first, second in ((one, other), (other, one))
    )
    outcomes = []
    for before, after in zip(there, back, strict=False):  # a repeat that was heard in one order only says nothing
        straight, swapped = _POINTS[before.value.better], 1.0 - _POINTS[after.value.better]
        outcomes.append((straight if straight == swapped else 0.5, straight == swapped))
    return outcomes
