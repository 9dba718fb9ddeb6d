"""The built-in strategies, by their names; each is a frozen dataclass and an async callable."""

from synthkd.ask import Strategy
from synthkd.strategies.acting import Act, Annotate, Environment, Observation, Play
from synthkd.strategies.combining import Ensemble, Ordered, Repeat, Route, chain
from synthkd.strategies.curation import AskAbout, Brainstorm, Exercises, FromCode, FromSeed, FromTools, Textbook
from synthkd.strategies.demonstrations import Shots
from synthkd.strategies.dialogue import Dialogue, SelfChat, Speaker, Utterance
from synthkd.strategies.distribution import TopK
from synthkd.strategies.expansion import (
    Demonstrate,
    Evolve,
    Examples,
    ForLabel,
    Instances,
    IsClassification,
    Leaked,
    NoGain,
    Paraphrase,
    SelfInstruct,
    Unanswered,
)
from synthkd.strategies.feedback import Choose, Classify, Critique, Judge, Rank, Rating, Revise, RevisedPair, Score
from synthkd.strategies.label_probability import LabelProbability
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
from synthkd.strategies.retrieval import Retrieve
from synthkd.strategies.scored import Scored
from synthkd.strategies.scores import IFD, Loss, QueryLikelihood, ReverseIFD
from synthkd.strategies.self_knowledge import AdditiveScore, Difficulty, Rewarded, SelfReward

__all__ = [
    "IFD",
    "Act",
    "AdditiveScore",
    "Annotate",
    "Answer",
    "AskAbout",
    "Brainstorm",
    "Choose",
    "Classify",
    "Correct",
    "Critique",
    "Demonstrate",
    "Dialogue",
    "Difficulty",
    "Ensemble",
    "Environment",
    "Evolve",
    "Examples",
    "Exercises",
    "ForLabel",
    "FromCode",
    "FromSeed",
    "FromTools",
    "Generate",
    "Instances",
    "IsClassification",
    "Judge",
    "LabelProbability",
    "Leaked",
    "Loss",
    "NoGain",
    "Observation",
    "Ordered",
    "Paraphrase",
    "Play",
    "ProgramOfThought",
    "Programmed",
    "QueryLikelihood",
    "Rank",
    "Rating",
    "Rationale",
    "Reasoned",
    "Repeat",
    "Retrieve",
    "ReverseIFD",
    "Revise",
    "RevisedPair",
    "Rewarded",
    "Route",
    "Sample",
    "Score",
    "Scored",
    "SelfChat",
    "SelfConsistency",
    "SelfInstruct",
    "SelfReward",
    "Shots",
    "Speaker",
    "Strategy",
    "Swap",
    "Textbook",
    "Think",
    "TopK",
    "Unanswered",
    "Utterance",
    "Verified",
    "chain",
]
