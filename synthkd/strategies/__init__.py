"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.acting import Act, Annotate, Environment, Observation, Play
from synthkd.strategies.dialogue import Dialogue, SelfChat, Speaker, Utterance
from synthkd.strategies.feedback import Rank, Rating
from synthkd.strategies.labeling import Answer, Rationale, Reasoned, Sample, SelfConsistency

__all__ = [
    "Act",
    "Annotate",
    "Answer",
    "Dialogue",
    "Environment",
    "Observation",
    "Play",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Sample",
    "SelfChat",
    "SelfConsistency",
    "Speaker",
    "Strategy",
    "Utterance",
]
