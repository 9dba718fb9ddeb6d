"""Preferences, demonstrations and ratings out of scored completions: the only place that makes a pair of an order.

Invariant: the chosen completion's score is greater than the rejected one's, and their texts differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import combinations
from random import Random
from typing import Literal, get_args

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import as_kept
from synthkd.record import Candidates, Demonstration, Preference, Prompted, Ranking, Rated

How = Literal["best_worst", "best_random", "all", "adjacent"]


def pairs(
    ranking: Ranking, how: How = "best_worst", margin: float = 0.0, rng: Random | None = None
) -> list[Preference]:
    """The pairs of a ranking; equal scores and equal texts are never one.

    Args:
        ranking: completions with scores, the best first.
        how: the best against the worst; against one drawn from all that are worse; each against each that is worse;
            each against the next one that is worse.
        margin: least difference of the scores; whatever it is, the difference is above zero.
        rng: draws, for `best_random`.

    Reference: Tunstall et al. 2023, Zephyr, arXiv:2310.16944 (best against random); Yuan et al. 2024, Self-Rewarding
        Language Models, arXiv:2401.10020 (best against worst).
    """
    scored = list(zip(ranking.completions, ranking.scores, strict=True))
    fit = [(a, b) for a, b in combinations(scored, 2) if a[0] != b[0] and a[1] > b[1] and a[1] - b[1] >= margin]
    best = [pair for pair in fit if pair[0] == scored[0]]
    if how == "best_worst":
        fit = best[-1:]
    elif how == "best_random":
        fit = [(rng or Random(0)).choice(best)] if best else []
    elif how == "adjacent":
        nearest: dict[tuple[str, float], tuple[tuple[str, float], tuple[str, float]]] = {}
        for pair in fit:
            nearest.setdefault(pair[0], pair)
        fit = list(nearest.values())
    return [
        Preference(
            parents=(ranking.id,),
            prompt=ranking.prompt,
            chosen=better,
            rejected=worse,
            score_chosen=high,
            score_rejected=low,
            meta=ranking.carried(),
        )
        for (better, high), (worse, low) in fit
    ]


@dataclass(frozen=True)
class Pairs:
    """Rankings as preferences, see `pairs`; a ranking that gives none is rejected as a "tie"."""

    how: How = "best_worst"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ConfigError(f"Pairs(how={self.how!r}): expected one of {', '.join(get_args(How))}")
        if not self.margin >= 0:
            raise ConfigError(f"Pairs(margin={self.margin}): expected 0 or more")

    async def __call__(self, record: Ranking, ask: Ask) -> Sequence[Preference]:
        found = pairs(record, self.how, self.margin, ask.rng if self.how == "best_random" else None)
        if not found:
            raise RecordError(
                f"no two texts whose scores differ, by {self.margin} or more: {record.scores}", reason="tie"
            )
        return found


@dataclass(frozen=True)
class ByOrder:
    """Candidates as a ranking because of how they were made: the strongest model's first, or the longest prompt's.

    Their scores count down to 0.

    Args:
        best_first: whether the first one is the best.

    Reference: Kim et al. 2023, ALMoST, arXiv:2305.13735.
    """

    best_first: bool = True

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Ranking]:
        ordered = record.completions if self.best_first else record.completions[::-1]
        scores = tuple(float(score) for score in reversed(range(len(ordered))))
        meta = record.carried()
        return [Ranking(parents=(record.id,), prompt=record.prompt, completions=ordered, scores=scores, meta=meta)]


@dataclass(frozen=True)
class Contrast:
    """A better and a worse completion of one prompt, each from a set of its own, as preferences by construction.

    The sets are joined by the prompt that the student sees. The worse ones' texts are held in memory.

    Args:
        worse: demonstrations that were made to be worse; of several for one prompt, the first one counts.

    Reference: Yang et al. 2023, RLCD, arXiv:2307.12950.
    """

    worse: Iterable[Demonstration] = field(repr=False)

    @cached_property
    def _by_prompt(self) -> dict[bytes, tuple[str, str]]:
        found: dict[bytes, tuple[str, str]] = {}
        for record in self.worse:
            found.setdefault(_digest(record), (record.id, record.completion))
        return found

    async def __call__(self, record: Demonstration, ask: Ask) -> Sequence[Preference]:
        other = self._by_prompt.get(_digest(record))
        if other is None:
            raise RecordError("no worse completion of the same prompt", reason="no counterpart")
        if other[1] == record.completion:
            raise RecordError("the better and the worse completion are the same text", reason="same text")
        better, worse = record.completion, other[1]
        ids = (record.id, other[0])
        return [Preference(parents=ids, prompt=record.prompt, chosen=better, rejected=worse, meta=record.carried())]


@dataclass(frozen=True)
class Best:
    """The best completion of a ranking as a demonstration, with its score in `meta`.

    Args:
        at_least: least score; a best one below it is rejected.
    """

    at_least: float | None = None

    async def __call__(self, record: Ranking, ask: Ask) -> Sequence[Demonstration]:
        score = record.scores[0]
        if self.at_least is not None and score < self.at_least:
            raise RecordError(f"the best score is {score}, wanted {self.at_least}", reason="below threshold")
        meta = {**record.carried(), "score": score}
        return [Demonstration(parents=(record.id,), prompt=record.prompt, completion=record.completions[0], meta=meta)]


@dataclass(frozen=True)
class Rate:
    """Each completion of a ranking by itself, good or not, for training without pairs.

    Args:
        good: the least score of a good one.
        bad: those below it are not good; what lies between is left out. By default `good`.

    Reference: Ethayarajh et al. 2024, KTO, arXiv:2402.01306.
    """

    good: float
    bad: float | None = None

    def __post_init__(self) -> None:
        if self.bad is not None and self.bad > self.good:
            raise ConfigError(f"Rate(good={self.good}, bad={self.bad}): expected bad no greater than good")

    async def __call__(self, record: Ranking, ask: Ask) -> Sequence[Rated]:
        below = self.good if self.bad is None else self.bad
        found = [
            Rated(
                parents=(record.id,),
                prompt=record.prompt,
                completion=text,
                label=score >= self.good,
                meta={**record.carried(), "score": score},
            )
            for text, score in zip(record.completions, record.scores, strict=True)
            if score >= self.good or score < below
        ]
        if not found:
            raise RecordError(
                f"all scores lie from {below} to {self.good}: {record.scores}", reason="between thresholds"
            )
        return found


def _digest(record: Prompted) -> bytes:
    return blake2b(as_kept(record.messages), digest_size=16).digest()
