"""Expansion: strategies that make more instructions, or texts, after the model of those that are there."""

from synthkd.strategies.expansion.elimination import Leaked, NoGain, Rule, Unanswered
from synthkd.strategies.expansion.evolving import (
    CODE,
    EASY_TWIN,
    HARD_TWIN,
    IN_BREADTH,
    IN_DEPTH,
    MATHS_DOWN,
    MATHS_UP,
    Evolve,
)
from synthkd.strategies.expansion.instances import Demonstrate, Instances, IsClassification
from synthkd.strategies.expansion.labelled import ForLabel
from synthkd.strategies.expansion.rewording import Paraphrase
from synthkd.strategies.expansion.self_instruct import Examples, SelfInstruct, draw

__all__ = [
    "CODE",
    "EASY_TWIN",
    "HARD_TWIN",
    "IN_BREADTH",
    "IN_DEPTH",
    "MATHS_DOWN",
    "MATHS_UP",
    "Demonstrate",
    "Evolve",
    "Examples",
    "ForLabel",
    "Instances",
    "IsClassification",
    "Leaked",
    "NoGain",
    "Paraphrase",
    "Rule",
    "SelfInstruct",
    "Unanswered",
    "draw",
]
