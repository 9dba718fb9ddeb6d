"""Measuring: the student beside its teacher and beside what it was before."""

from synthkd.evaluation.accuracy import Accuracy, accuracy, table

__all__ = ["Accuracy", "accuracy", "table"]
