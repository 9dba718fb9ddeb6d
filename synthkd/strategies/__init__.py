"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.acting import Act, Annotate, Environment, Observation, Play
from synthkd.strategies.combining import Ensemble, Ordered, Repeat, Route, chain
from synthkd.strategies.demonstrations import Shots
from synthkd.strategies.dialogue import Dialogue, SelfChat, Speaker, Utterance
from synthkd.strategies.feedback import Choose, Classify, Critique, Judge, Rank, Rating, Revise, RevisedPair, Score
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
    "Act",
    "AdditiveScore",
    "Annotate",
    "Answer",
    "Choose",
    "Classify",
    "Correct",
    "Critique",
    "Dialogue",
    "Difficulty",
    "Ensemble",
    "Environment",
    "Generate",
    "Judge",
    "Observation",
    "Ordered",
    "Play",
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
    "SelfChat",
    "SelfConsistency",
    "SelfReward",
    "Shots",
    "Speaker",
    "Strategy",
    "Swap",
    "Think",
    "Utterance",
    "Verified",
    "chain",
]
