"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.feedback import (
    Choose,
    Classify,
    Contrast,
    Critique,
    Judge,
    Rank,
    Rating,
    Revise,
    RevisedPair,
    Score,
)
from synthkd.strategies.labeling import Answer, Rationale, Reasoned, Sample, SelfConsistency

__all__ = [
    "Answer",
    "Choose",
    "Classify",
    "Contrast",
    "Critique",
    "Judge",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Revise",
    "RevisedPair",
    "Sample",
    "Score",
    "SelfConsistency",
    "Strategy",
]
