"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.curation import AskAbout, Brainstorm, Exercises, FromCode, FromSeed, FromTools, Textbook
from synthkd.strategies.expansion import (
    Classify,
    Demonstrate,
    Evolve,
    Examples,
    ForLabel,
    Instances,
    Leaked,
    NoGain,
    Paraphrase,
    SelfInstruct,
    Unanswered,
    draw,
)
from synthkd.strategies.feedback import Rank, Rating
from synthkd.strategies.labeling import Answer, Rationale, Reasoned, Sample, SelfConsistency

__all__ = [
    "Answer",
    "AskAbout",
    "Brainstorm",
    "Classify",
    "Demonstrate",
    "Evolve",
    "Examples",
    "Exercises",
    "ForLabel",
    "FromCode",
    "FromSeed",
    "FromTools",
    "Instances",
    "Leaked",
    "NoGain",
    "Paraphrase",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Sample",
    "SelfConsistency",
    "SelfInstruct",
    "Strategy",
    "Textbook",
    "Unanswered",
    "draw",
]
