"""What a run will take, from a pilot of a few records: the only place that extrapolates calls, tokens, money and time.

The pilot is the pipeline itself, in the real run's folder, on the first records of each source; what it pays for is in
the journal, so the run does not pay for it again. Every figure is traced to the source record that it was spent on, and
the range comes from how much these differ. Invariant: the pilot saves no dataset and trains nothing.

Reference: the range is Student's interval for a total, with the finite-population correction (Cochran 1977, Sampling
Techniques, section 2.8): 95 % where the figures of single records are not too skewed; the rare is missed by a small
pilot.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from synthkd.ask import Ask, Strategy, Switchboard
from synthkd.errors import ConfigError
from synthkd.record import Record
from synthkd.request import Completion, Request, Teacher, keys
from synthkd.run import Run, name_of
from synthkd.stage import Stage

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)

_ENDLESS = 10_000_000
"""Records after which a source counts as one that does not end."""
_SURE = 0.95
FIGURES = ("calls", "prompt_tokens", "completion_tokens", "cost")


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value and what it lies between."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage will take when all records are there."""

    name: str
    records: Range
    """Records that come in."""
    calls: Range
    """Completions drawn."""
    prompt_tokens: Range
    completion_tokens: Range
    cost: Range | None
    """US dollars; None where a teacher's price is unknown."""
    seconds: Range
    """From as fast as the endpoints' limits allow, to no more calls at a time than the pilot made."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a pipeline will take."""

    stages: list[StageEstimate]
    total: StageEstimate
    pilot: int
    """Records that the pilot took of the source, or of the largest of several."""
    of: int
    """Records that it has."""
    paid_calls: int
    """Calls that the pilot made; those it found in the journal are not among them."""
    paid: float | None
    """US dollars that they cost."""
    unfinished: str
    """Why the pilot ended before the pipeline's last line, where it did."""


def estimate(run: Pilot, pipeline: Callable[..., object], options: Mapping[str, Any] | None = None) -> Estimate:
    """Run a pipeline's pilot and extrapolate.

    Args:
        run: the pilot's run, open.
        pipeline: the function, called with the run.
        options: its other arguments.

    Raises:
        ConfigError: the pipeline maps over no records that the pilot could take the first few of.
    """
    unfinished = ""
    try:
        pipeline(run, **(options or {}))
    except Exception as error:
        if str(run.unsaved) not in str(error):
            raise
        unfinished = "it went on with the dataset that it had saved (training, say), and a pilot saves none"
    if not run.measured:
        raise ConfigError(
            "the pipeline maps over no records (run.map, run.filter), so there is nothing that a pilot could take the "
            "first few of, and nothing to estimate"
        )
    return run.estimate(unfinished)


class Pilot(Run):
    """A run over the first records of every source, that measures what each of them takes.

    Args:
        folder: the real run's folder.
        pilot: how many records of each source are taken.
        options: a run's other arguments.
    """

    def __init__(self, folder: str | Path, *, pilot: int = 8, **options: Any) -> None:
        if pilot < 2:
            raise ConfigError(f"pilot={pilot}: at least 2 records are needed to say how much they differ")
        super().__init__(folder, **{**options, "about": {**(options.get("about") or {}), "pilot": pilot}})
        self._board = _Watched(self._board)
        self._most = pilot
        self._sources: list[_Source] = []
        self._roots: dict[str, str] = {}
        """Record to the source record that it was made from."""
        self.measured: list[_Measured] = []
        self.unsaved = self.folder / "no dataset is saved by a pilot"
        """What `save` returns."""

    def map(
        self,
        strategy: Strategy[In, Out],
        records: Iterable[In],
        *,
        name: str | None = None,
        **roles: Teacher,
    ) -> Stage[Out]:
        """The stage, on as many records as the pilot takes."""
        measured = _Measured()
        self.measured.append(measured)
        taken = self._taken(records)
        stage = super().map(
            _Traced(strategy, measured, self._roots), taken, name=name or name_of(strategy), **roles
        )
        measured.name = stage.name
        return stage

    def filter(self, rule: Filter[R], records: Iterable[R], *, name: str | None = None) -> Stage[R]:
        """The stage, on as many records as the pilot takes."""
        return super().filter(rule, self._taken(records), name=name)

    def save(
        self,
        stage: Stage[Any],
        folder: str | Path | None = None,
        *,
        reasoning: Literal["column", "think", "inline"] = "column",
    ) -> Path:
        """Nothing: a dataset of a few rows shall not stand where the real one will."""
        return self.unsaved
