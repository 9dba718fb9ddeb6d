"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.combining import Ensemble, Ordered, Repeat, Route, chain
from synthkd.strategies.demonstrations import Shots
from synthkd.strategies.feedback import (
    Choose,
    Classify,
    Critique,
    Judge,
    Rank,
    Rating,
    Revise,
    RevisedPair,
    Score,
)
from synthkd.strategies.labeling import (
    Answer,
    Correct,
    Generate,
    Programmed,
    ProgramOfThought,
    Rationale,
    Reasoned,
    Sample,
    SelfConsistency,
    Swap,
    Think,
    Verified,
)
from synthkd.strategies.self_knowledge import AdditiveScore, Difficulty, Rewarded, SelfReward

__all__ = [
    "AdditiveScore",
    "Answer",
    "Choose",
    "Classify",
    "Correct",
    "Critique",
    "Difficulty",
    "Ensemble",
    "Generate",
    "Judge",
    "Ordered",
    "ProgramOfThought",
    "Programmed",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Repeat",
    "Revise",
    "RevisedPair",
    "Rewarded",
    "Route",
    "Sample",
    "Score",
    "SelfConsistency",
    "SelfReward",
    "Shots",
    "Strategy",
    "Swap",
    "Think",
    "Verified",
    "chain",
]
