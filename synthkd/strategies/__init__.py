"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.distribution import TopK
from synthkd.strategies.feedback import Rank, Rating
from synthkd.strategies.label_probability import LabelProbability
from synthkd.strategies.labeling import Answer, Rationale, Reasoned, Sample, SelfConsistency
from synthkd.strategies.retrieval import Retrieve
from synthkd.strategies.scored import Scored
from synthkd.strategies.scores import IFD, Loss, QueryLikelihood, ReverseIFD

__all__ = [  # noqa: RUF022 - plain order, as the test of public names has it
    "Answer",
    "IFD",
    "LabelProbability",
    "Loss",
    "QueryLikelihood",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Retrieve",
    "ReverseIFD",
    "Sample",
    "Scored",
    "SelfConsistency",
    "Strategy",
    "TopK",
]
