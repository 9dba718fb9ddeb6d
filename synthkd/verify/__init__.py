"""Verification: what can be said about a completion without asking a model."""

from synthkd.verify.answers import exact, final_answer, marked_answer, matches, value
from synthkd.verify.programs import Verdict, passes, prints, program_of, runs
from synthkd.verify.sandbox import Limits, Outcome, Sandbox, aside

__all__ = [
    "Limits",
    "Outcome",
    "Sandbox",
    "Verdict",
    "aside",
    "exact",
    "final_answer",
    "marked_answer",
    "matches",
    "passes",
    "prints",
    "program_of",
    "runs",
    "value",
]
