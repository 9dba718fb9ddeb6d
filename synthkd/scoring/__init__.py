"""Scoring: models on this machine that judge or embed texts, as plain callables for filters, strategies and indexes."""

from synthkd.scoring.classifying import NLI, Classifier, Reward
from synthkd.scoring.embedding import Embedder

__all__ = ["NLI", "Classifier", "Embedder", "Reward"]
