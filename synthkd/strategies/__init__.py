"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.feedback import Rank, Rating
from synthkd.strategies.labeling import Answer, Rationale, Reasoned, Sample, SelfConsistency
from synthkd.strategies.retrieval import Retrieve

__all__ = ["Answer", "Rank", "Rating", "Rationale", "Reasoned", "Retrieve", "Sample", "SelfConsistency", "Strategy"]
