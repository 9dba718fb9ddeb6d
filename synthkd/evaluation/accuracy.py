"""Accuracy on problems with a known answer: the only place where a share of right answers is computed.

Measuring takes the road of everything else, a run's `map`, so that it is journaled, resumable and counted. Invariant: a
problem without a usable answer counts as wrong, and never drops out of the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from synthkd.errors import ConfigError
from synthkd.record import Instruction
from synthkd.request import Sampling, Teacher
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.verify.answers import final_answer, marked_answer, matches

if TYPE_CHECKING:
    from rich.table import Table

_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of the problems one model solved."""

    name: str
    correct: int
    total: int
    """All problems, those without a usable answer included."""

    @property
    def share(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the share. Reference: Wilson 1927, score interval."""
        n, p = self.total, self.share
        middle = p + _Z * _Z / (2 * n)
        half = _Z * sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name}: {self.share:.1%} ({self.correct} of {self.total}, 95 % interval {low:.1%} to {high:.1%})"


def accuracy(
    run: Run,
    problems: Sequence[Instruction],
    models: Mapping[str, Teacher],
    *,
    gold: str | Callable[[Instruction], str] = "answer",
    strategy: Answer | None = None,
    by: Callable[[str, str], bool] = matches,
) -> dict[str, Accuracy]:
    """Have each model answer the problems and count what agrees with the gold answers.

    Args:
        run: where the answers are kept; a stage for each model is added to it.
        problems: held-out problems, with their gold answers.
        models: name to model, such as `{"teacher": ..., "before": ..., "student": ...}`.
        gold: the field, or entry of `meta`, that holds the gold answer; or a function that gives it.
        strategy: how they are asked; by default the problem as it stands, greedily.
        by: whether an answer agrees with the gold one.

    Returns:
        the accuracies under the models' names, in their order.

    Raises:
        ConfigError: no problems, or one without a gold answer.
    """
    if not len(problems):
        raise ConfigError("there are no problems to measure on")
    known = {problem.id: _gold(problem, gold) for problem in problems}
    asked = strategy or Answer(sampling=Sampling(temperature=0.0))
    found = {}
    for name, model in models.items():
        answers = run.map(asked, problems, name=f"accuracy of {name}", teacher=model)
        correct = sum(
            by(found_answer, known[answer.parents[0]])
            for answer in answers
            if (found_answer := final_answer(answer.completion)) is not None
        )
        found[name] = Accuracy(name, correct, len(problems))
    return found


def _gold(problem: Instruction, gold: str | Callable[[Instruction], str]) -> str:
    if callable(gold):
        return gold(problem)
    offered = problem.variables()
    if offered.get(gold) is None:
        there = ", ".join(sorted(offered))
        raise ConfigError(f"problem {problem.id} has no {gold!r} to be measured against; there are {there}")
    text = str(offered[gold])
    return marked_answer(text) or text


def table(found: Mapping[str, Accuracy]) -> Table:
    """A table for the terminal: model, right answers, share, 95 % interval."""
    from rich.table import Table

    shown = Table("model", "right", "accuracy", "95 % interval")
    for one in found.values():
        low, high = one.interval
        shown.add_row(one.name, f"{one.correct} of {one.total}", f"{one.share:.1%}", f"{low:.1%} to {high:.1%}")
    return shown
