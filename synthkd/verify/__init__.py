"""Verification: what can be said about a completion without asking a model."""

from synthkd.verify.answers import exact, final_answer, marked_answer, matches, value

__all__ = ["exact", "final_answer", "marked_answer", "matches", "value"]
