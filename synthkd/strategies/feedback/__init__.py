"""Feedback: strategies in which a judge compares, scores or criticises what others wrote."""

from synthkd.strategies.feedback.choose import Choose, Classify
from synthkd.strategies.feedback.judge import Judge, Score
from synthkd.strategies.feedback.rank import Rank, Rating
from synthkd.strategies.feedback.revise import Critique, Revise, RevisedPair

__all__ = ["Choose", "Classify", "Critique", "Judge", "Rank", "Rating", "Revise", "RevisedPair", "Score"]
