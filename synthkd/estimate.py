"""What a run will take, tried on a few records before: the only place that runs a pipeline's pilot.

The pilot is the pipeline itself, in the real run's folder, on the first records of each source; what it pays for is in
the journal, so the run does not pay for it again. Invariant: the pilot saves no dataset and trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from synthkd.ask import Strategy
from synthkd.errors import AwaitingReview, ConfigError
from synthkd.extrapolate import Estimate, Measured, extrapolated, summed
from synthkd.growth import Goal
from synthkd.record import Record
from synthkd.request import Teacher
from synthkd.run import Run
from synthkd.stage import Stage
from synthkd.switchboard import Switchboard
from synthkd.tracing import Lineage, Traced, TracedDraws, Watched

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)


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
    except AwaitingReview:
        unfinished = "it waits for what people decide about its rows"
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

    A source is what a stage maps over that is no stage and was not made of one's rows (with their ids as `parents`), or
    the draws of a set that grows, of which there will be as many as the goal needs at the pilot's yield.

    Args:
        folder: the real run's folder.
        pilot: how many records of each source are taken.
        options: a run's other arguments.
    """

    def __init__(self, folder: str | Path, *, pilot: int = 8, **options: Any) -> None:
        if pilot < 2:
            raise ConfigError(f"pilot={pilot}: at least 2 records are needed to say how much they differ")
        super().__init__(folder, **{**options, "about": {**(options.get("about") or {}), "pilot": pilot}})
        self._most = pilot
        self._made = Lineage()
        self._counted: set[bytes] = set()
        self.measured: list[Measured] = []
        """What each stage took."""
        self.unsaved = self.folder / "no-dataset-of-a-pilot"
        """What `save` returns."""

    def map(
        self,
        strategy: Strategy[In, Out],
        records: Iterable[In],
        *,
        name: str | None = None,
        **roles: Teacher | str,
    ) -> Stage[Out]:
        """The stage, on as many records as the pilot takes."""
        traced = Traced(strategy, self._made)
        stage = super().map(traced, self._made.first(records, self._most), name=name, **roles)
        self.measured.append(self._measure(stage.name, traced))
        return stage

    def grow(
        self,
        strategy: Strategy[Any, Out],
        seeds: Iterable[Record],
        *,
        until: int,
        name: str | None = None,
        **options: Any,
    ) -> Stage[Out]:
        """The two stages, of as many draws as the pilot takes records; the draws are a source of their own."""
        traced = TracedDraws(strategy, self._made)
        stage = super().grow(traced, seeds, until=until, name=name, **options)
        traced.source.total = max(math.ceil(len(traced.source.roots) * until / max(len(stage), 1)), 1)
        self.measured.append(self._measure(stage.name, traced))
        return stage

    def _board_of(self, board: Switchboard) -> Switchboard:
        return Watched(board)

    def _goal(self, until: int, at_a_time: int, patience: int) -> Goal:
        return Goal(until, min(at_a_time, self._most), patience, draws=self._most)

    def filter(self, rule: Filter[R], records: Iterable[R], *, name: str | None = None) -> Stage[R]:
        """The stage, on as many records as the pilot takes."""
        return super().filter(rule, self._made.first(records, self._most), name=name)

    def save(
        self,
        stage: Stage[Any],
        folder: str | Path | None = None,
        *,
        reasoning: Literal["column", "think", "inline"] = "column",
    ) -> Path:
        """Save nothing: a dataset of a few rows shall not stand where the real one will."""
        return self.unsaved

    def estimate(self, unfinished: str = "") -> Estimate:
        """Extrapolate what was measured."""
        stages = [extrapolated(one, self._made.sources) for one in self.measured]
        largest = max(self._made.sources, key=lambda source: source.total)
        counters, prices = self.counters, [self._board.budget.price(player) for player in self._used.values()]
        return Estimate(
            stages=stages,
            total=summed(stages, self.measured, self._made.sources),
            pilot=len(largest.roots),
            of=largest.total,
            paid_calls=counters.calls,
            paid=None if None in prices and counters.calls else counters.cost,
            unfinished=unfinished,
        )

    def _measure(self, name: str, traced: Traced) -> Measured:
        """What a stage's calls took, by the source record they were made for; equal calls count once."""
        found = Measured(name, traced.records)
        journal, budget = self._board.journal, self._board.budget
        for origin, drawn in traced.drawn:
            for teacher, wanted in drawn:
                fresh = [key for key in wanted if key not in self._counted]
                self._counted.update(fresh)
                completions = [known for key in fresh if (known := journal.find(key)) is not None]
                if not completions:
                    continue
                price, endpoint = budget.price(teacher), teacher.limits.endpoint
                seconds = max(journal.seconds(key) for key in fresh)
                for usage in (completion.usage for completion in completions):
                    found.took["calls"][origin] += 1
                    found.took["prompt_tokens"][origin] += usage.prompt_tokens
                    found.took["completion_tokens"][origin] += usage.completion_tokens
                    found.took["cost"][origin] += 0.0 if price is None else price.cost(usage)
                found.priced &= price is not None
                found.took["seconds"][origin] += seconds
                found.busy[endpoint][origin] += seconds
                found.places[endpoint] = teacher.limits.max_in_flight
        return found
