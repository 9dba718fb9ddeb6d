"""The human gate: records are put before a person, and the run waits for the decisions or goes on without."""

from synthkd.human.gate import Decision, Gate, review

__all__ = ["Decision", "Gate", "review"]
