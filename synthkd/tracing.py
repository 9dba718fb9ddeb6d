"""Whose calls are whose in a pilot: the only place that follows every figure back to the source record it was spent on.

Invariant: a record has one origin, the first of its parents' or itself, so no call is counted for two sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from contextvars import ContextVar
from itertools import islice
from typing import Any, TypeVar

from synthkd.ask import Ask, Strategy
from synthkd.errors import ConfigError
from synthkd.extrapolate import Origin, Source
from synthkd.record import Record
from synthkd.request import Completion, Request, Teacher, keys
from synthkd.stage import Stage
from synthkd.switchboard import Switchboard

R = TypeVar("R", bound=Record)

_ENDLESS = 10_000_000
"""Records after which a source counts as one that does not end."""


class Lineage:
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


class Traced:
    """A strategy that is asked as ever, and whose calls are noted down by origin."""

    def __init__(self, strategy: Strategy[Any, Any], made: Lineage) -> None:
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


class TracedDraws(Traced):
    """A strategy that grows a set: each draw is a record of a source that nobody knows the length of before."""

    def __init__(self, strategy: Strategy[Any, Any], made: Lineage) -> None:
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


class Watched(Switchboard):
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
