"""What a run will take, tried on a few records before: the only place that runs a pipeline's pilot.

The pilot is the pipeline itself, in the real run's folder, on the first records of each source; what it pays for is in
the journal, so the run does not pay for it again. Invariant: the pilot saves no dataset and trains nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from synthkd.ask import Ask, Strategy
from synthkd.errors import AwaitingReview, ConfigError
from synthkd.extrapolate import Estimate, Measured, Origin, Source, extrapolated, summed
from synthkd.growth import Goal
from synthkd.record import Record
from synthkd.request import Completion, Request, Teacher, keys
from synthkd.run import Run
from synthkd.stage import Stage
from synthkd.switchboard import Switchboard

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)

_ENDLESS = 10_000_000
"""Records after which a source counts as one that does not end."""


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
        self._board: Switchboard = _Watched(self._board)
        self._most = pilot
        self._made = _Lineage()
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
        traced = _Traced(strategy, self._made)
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
        traced = _TracedDraws(strategy, self._made)
        stage = super().grow(traced, seeds, until=until, name=name, **options)
        traced.source.total = max(math.ceil(len(traced.source.roots) * until / max(len(stage), 1)), 1)
        self.measured.append(self._measure(stage.name, traced))
        return stage

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

    def _measure(self, name: str, traced: _Traced) -> Measured:
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


class _Lineage:
    """Which source record every record of the pilot was made from."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._origins: dict[str, Origin] = {}

    def first(self, records: Iterable[R], most: int) -> Iterable[R]:
        """The first few records of a source; all of what was made from a stage's rows."""
        if isinstance(records, Stage):
            return records
        left = iter(records)
        head = list(islice(left, most))
        if not all(isinstance(record, Record) for record in head):
            return head  # the run says what is wrong with it
        if head and all(self._was_made(record) for record in head):
            return [*head, *left]
        self._add([record.id for record in head], _length(records, head, left))
        return head

    def of(self, record: Record) -> Origin:
        """Where a record comes from; its parents are asked where it is new."""
        found = self._origins.get(record.id)
        if found is None:
            known = (self._origins[parent] for parent in record.parents if parent in self._origins)
            found = self._origins[record.id] = next(known, (len(self.sources) - 1, record.id))
        return found

    def made(self, record: Record, origin: Origin) -> None:
        """A strategy has made a record."""
        self._origins.setdefault(record.id, origin)

    def _was_made(self, record: Record) -> bool:
        if record.id in self._origins:
            return self._origins[record.id][1] != record.id
        return any(parent in self._origins for parent in record.parents)

    def _add(self, roots: list[str], total: int) -> None:
        source = Source(roots, total)
        if source not in self.sources:
            self.sources.append(source)
        number = self.sources.index(source)
        self._origins.update((root, (number, root)) for root in roots)


class _Traced:
    """A strategy that is asked as ever, and whose calls are noted down by origin."""

    def __init__(self, strategy: Strategy[Any, Any], made: _Lineage) -> None:
        self._strategy = strategy
        self._made = made
        self.__name__ = getattr(strategy, "__name__", None) or type(strategy).__name__
        self.records: Counter[Origin] = Counter()
        self.drawn: list[tuple[Origin, list[tuple[Teacher, list[bytes]]]]] = []

    def __repr__(self) -> str:
        return repr(self._strategy)

    def check(self, record: Record) -> None:
        """Let the strategy check itself."""
        check = getattr(self._strategy, "check", None)
        if check is not None:
            check(record)

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Any]:
        origin = self._made.of(record)
        self.records[origin] += 1
        drawn: list[tuple[Teacher, list[bytes]]] = []
        self.drawn.append((origin, drawn))
        token = _drawn.set(drawn)
        try:
            outputs = await self._strategy(record, ask)
        finally:
            _drawn.reset(token)
        for output in outputs or ():
            if isinstance(output, Record):
                self._made.made(output, origin)
        return outputs


class _TracedDraws(_Traced):
    """A strategy that grows a set: each draw is a record of a source that nobody knows the length of before."""

    def __init__(self, strategy: Strategy[Any, Any], made: _Lineage) -> None:
        super().__init__(strategy, made)
        self.source = Source([], 0)
        self._number = len(made.sources)
        made.sources.append(self.source)
        if (draw := getattr(strategy, "draw", None)) is not None:
            self.draw = draw

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Any]:
        self.source.roots += [record.id] * (record.id not in self.source.roots)
        self._made.made(record, (self._number, record.id))
        return await super().__call__(record, ask)


_drawn: ContextVar[list[tuple[Teacher, list[bytes]]] | None] = ContextVar("synthkd_pilot", default=None)
"""The calls of the record that is worked on; what a strategy starts beside itself inherits it."""


class _Watched(Switchboard):
    """A switchboard that notes who asked for what."""

    def __init__(self, board: Switchboard) -> None:
        super().__init__(board.journal, board.counters, board.budget)

    async def draw(self, teacher: Teacher, request: Request[Any], indices: Sequence[int]) -> list[Completion]:
        drawn = _drawn.get()
        if drawn is not None:
            drawn.append((teacher, keys(teacher.identity, request, indices)))
        return await super().draw(teacher, request, indices)


def _length(records: Iterable[Any], head: Sequence[Any], left: Iterable[Any]) -> int:
    if isinstance(records, Sized):
        return len(records)
    more = sum(1 for _ in islice(left, _ENDLESS))
    if more == _ENDLESS:
        raise ConfigError(
            f"the records that the pipeline maps over do not end after {_ENDLESS:,}: give it a list, a file or a limit"
        )
    return len(head) + more
