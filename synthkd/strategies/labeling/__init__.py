"""Labeling: strategies in which a teacher answers instructions that are already there."""

from synthkd.strategies.labeling.answers import Answer, Programmed, ProgramOfThought, Rationale, Reasoned, Think
from synthkd.strategies.labeling.generating import Generate
from synthkd.strategies.labeling.samples import Sample, SelfConsistency
from synthkd.strategies.labeling.swapping import Swap
from synthkd.strategies.labeling.verified import Correct, Verified

__all__ = [
    "Answer",
    "Correct",
    "Generate",
    "ProgramOfThought",
    "Programmed",
    "Rationale",
    "Reasoned",
    "Sample",
    "SelfConsistency",
    "Swap",
    "Think",
    "Verified",
]
