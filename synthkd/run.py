"""A run: a folder, an event loop, and the teachers by role; it maps strategies over records.

The program is the graph and the journal is the checkpoint: running the same program on the same folder again makes
only the calls that are still owed. Invariant: memory is bounded by what is in flight, not by the number of records.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from synthkd.ask import Ask, Strategy, Switchboard
from synthkd.budget import Budget
from synthkd.database import Database
from synthkd.errors import ConfigError, RecordError, SynthKDError
from synthkd.folder import Folder, resume_hint
from synthkd.journal import Journal
from synthkd.loop import Loop
from synthkd.progress import Counters, LiveView
from synthkd.record import Record
from synthkd.request import Teacher
from synthkd.stage import Stage, StageWriter

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)

_WIDTH = 1024
_BREATH = 64
"""Records that one worker may finish from the journal alone before others get a turn."""


class Run:
    """A set of records in the making, on disk.

    Args:
        folder: where everything is kept; an existing run folder is resumed.
        teacher: who answers; also the judge, unless `judge` is given.
        judge: who compares and scores.
        student: the model being trained, for strategies that ask it.
        roles: teachers by further names.
        seed: what every random choice derives from, together with the record's id.
        records_in_flight: how many records are worked on at a time; the endpoints' own limits hold beside it. By
            default 1024, or more where a teacher takes more at a time, as one with a batch API does.
        max_cost: US dollars that this folder may cost in all, over all processes that ever work in it.
        max_calls: completions that may be drawn for it.
        max_tokens: tokens of prompts and completions that they may take together.
        about: what the run's description should say of it, such as pipeline and options.
        quiet: no live view; by default it shows on a terminal.

    Raises:
        ConfigError: `max_cost` is given, and a teacher's price is unknown.
        RunLocked: another process works in this folder.
        RunFolderError: the folder cannot be written, or its file is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        teacher: Teacher | None = None,
        judge: Teacher | None = None,
        student: Teacher | None = None,
        roles: Mapping[str, Teacher] | None = None,
        seed: int = 0,
        records_in_flight: int | None = None,
        max_cost: float | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        about: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        if records_in_flight is not None and records_in_flight < 1:
            raise ConfigError(f"records_in_flight={records_in_flight}: at least 1 is needed")
        named = {"teacher": teacher, "judge": judge or teacher, "student": student, **(roles or {})}
        self.roles: dict[str, Teacher] = {role: player for role, player in named.items() if player is not None}
        _check_roles(self.roles)
        budget = Budget(max_cost, max_calls, max_tokens)
        budget.check(self.roles)
        self.seed = seed
        self.quiet = quiet
        self.counters = Counters()
        self._width = records_in_flight
        self._stages: list[Stage[Any]] = []
        self._used: dict[int, Teacher] = {id(player): player for player in self.roles.values()}
        self._files = Folder(Path(folder), self.roles, seed, about or {})
        try:
            self._database = Database(self._files.database)
            journal = self._resumed(budget)
        except BaseException:
            self._files.release()
            raise
        self._board = Switchboard(journal, self.counters, budget)
        self._loop = Loop()
        self._view = LiveView(self.counters, self._files.path.name, quiet)
        for player in self.roles.values():
            if (watch := getattr(player, "watch", None)) is not None:
                watch(self._view.say)
        self._closed = False

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._files.path

    def map(
        self,
        strategy: Strategy[In, Out],
        records: Iterable[In],
        *,
        name: str | None = None,
        **roles: Teacher,
    ) -> Stage[Out]:
        """Ask a strategy for each record and keep what it gives, in input order.

        Args:
            strategy: an async callable `(record, ask) -> sequence of records`.
            records: a stage, or any iterable of records; it is read as places become free.
            name: the stage's name; by default the strategy's.
            roles: teachers that replace a role in this stage only, such as `student=trained`.

        Raises:
            ConfigError: a prompt or a role is wrong; nothing has been paid for.
            RunError: the run cannot go on; what is finished is kept, and the same command resumes it.
        """
        _check_roles(roles)
        self._board.budget.check(roles)
        self._used.update((id(player), player) for player in roles.values())
        writer = self._new_stage(name or _name_of(strategy), _described(strategy), records)
        work = _Mapping(strategy, records, {**self.roles, **roles}, writer, self)
        return self._perform(writer, work)

    def filter(self, rule: Filter[R], records: Iterable[R], *, name: str | None = None) -> Stage[R]:
        """Keep the records that a filter has nothing against; the others become rejects with its reason."""
        writer = self._new_stage(name or _name_of(rule), _described(rule), records)
        return self._perform(writer, _Filtering(rule, records, writer, self))

    def save(
        self,
        stage: Stage[Any],
        folder: str | Path | None = None,
        *,
        reasoning: Literal["column", "think", "inline"] = "column",
    ) -> Path:
        """Write a stage as a Hugging Face dataset with TRL's columns, provenance and a card.

        Args:
            stage: what to save.
            folder: where to; by default `dataset/` in the run's folder.
            reasoning: keep the teacher's thinking as a column of its own, put it as `<think>` before the completion,
                or as plain text before it.

        Returns:
            the folder, which `datasets.load_dataset` and `synthkd.training` read.
        """
        from synthkd.saving import save_stage

        return save_stage(self._database, self._files, self._stages, stage, folder, reasoning)

    def close(self) -> None:
        """Finish writing, give back the teachers and release the folder."""
        if self._closed:
            return
        self._closed = True
        self._database.hurry()
        try:
            self._loop.run(self._farewell)
        finally:
            self._view.stop()
            self._loop.close()
            try:
                self._database.close()
                self._files.report(self.counters)
            finally:
                self._files.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except SynthKDError:
            if error is None:  # else the first failure is the one to hear
                raise
        if isinstance(error, KeyboardInterrupt):
            self._view.say(resume_hint(self.folder))

    def _resumed(self, budget: Budget) -> Journal:
        """The journal, with what it holds counted where that is limited."""
        try:
            journal = Journal(self._database)
            if budget.limited:
                budget.resume(journal.spent(), self.roles)
        except BaseException:
            self._database.close()
            raise
        return journal

    async def _farewell(self) -> None:
        try:
            await self._database.committed()
        finally:  # also when the disk is full: a connection left open outlives the loop
            for player in self._used.values():
                await player.aclose()

    def _new_stage(self, name: str, strategy: str, records: Iterable[Any]) -> StageWriter:
        if self._closed:
            raise ConfigError(f"the run in {self.folder} is closed; open it again with Run({str(self.folder)!r}, ...)")
        taken = {stage.name for stage in self._stages}
        unique = next(n for n in _numbered(name) if n not in taken)
        source = records.name if isinstance(records, Stage) else type(records).__name__
        return StageWriter(self._database, len(self._stages) + 1, unique, strategy, source)

    def _perform(self, writer: StageWriter, work: _Mapping | _Filtering) -> Stage[Any]:
        total = len(work.records) if isinstance(work.records, Sequence) else None
        self._view.begin(writer.name, total)
        began = time.monotonic()

        async def whole() -> None:
            writer.begin()
            try:
                await work()
                await self._board.quiet()
            finally:
                await self._database.committed()
            await writer.finish(time.monotonic() - began)

        self._loop.run(whole)
        stage: Stage[Any] = Stage(self._database, writer.number, writer.name, writer.kinds)
        self._stages.append(stage)
        self._view.end(f"{stage.name}: {stage.ledger}")
        return stage


class _Mapping:
    """One `map` in progress: workers that take records from one iterator and write what the strategy gives."""

    def __init__(
        self,
        strategy: Strategy[Any, Any],
        records: Iterable[Record],
        roles: Mapping[str, Teacher],
        writer: StageWriter,
        run: Run,
    ) -> None:
        self.records = records
        self._strategy = strategy
        self._roles = roles
        self._writer = writer
        self._run = run
        self._inputs: Iterator[tuple[int, tuple[Record, tuple[int, ...]]]] = enumerate(_with_sources(records, run))

    async def __call__(self) -> None:
        first = next(self._inputs, None)
        if first is None:
            return
        self._check(first[1][0])  # before any worker can pay for anything
        self._inputs = chain((first,), self._inputs)
        width = self._run._width or max([_WIDTH, *(player.limits.max_in_flight for player in self._roles.values())])
        known = len(self.records) if isinstance(self.records, Sequence) else width
        workers = [asyncio.create_task(self._worker()) for _ in range(min(width, known))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self) -> None:
        database, counters = self._run._database, self._run.counters
        for position, (record, sources) in self._inputs:
            await self._one(position, record, sources)
            counters.done += 1
            if position % _BREATH == 0:
                await (database.committed() if database.crowded else asyncio.sleep(0))

    def _check(self, record: Record) -> None:
        check = getattr(self._strategy, "check", None)
        if check is not None:
            check(record)

    async def _one(self, position: int, record: Record, sources: tuple[int, ...]) -> None:
        try:
            ask = Ask(self._run._board, self._roles, f"{self._run.seed}:{record.id}")
        except RecordError as unnamed:  # a record without an id
            self._run.counters.rejected += 1
            self._writer.reject(position, record, unnamed, Counter())
            return
        try:
            outputs = await self._strategy(record, ask)
            _check_outputs(outputs)
        except Exception as raised:
            error = _first_of(raised)
            if isinstance(error, RecordError):
                self._run.counters.rejected += 1
                self._writer.reject(position, record, error, ask.dropped)
                return
            if not isinstance(error, SynthKDError):
                _note(error, f"while stage {self._writer.name!r} worked on record {record.id} (input {position + 1})")
            if error is raised:
                raise
            raise error from error.__cause__
        used = ask.sources
        merged = tuple(sorted(used.union(sources)) if sources or len(used) > 1 else used) if used else sources
        if not outputs:
            self._run.counters.rejected += 1
        self._writer.accept(position, record, outputs, merged, ask.dropped)


class _Filtering:
    """One `filter` in progress: records and verdicts side by side."""

    def __init__(self, rule: Filter[Any], records: Iterable[Record], writer: StageWriter, run: Run) -> None:
        self.records = records
        self._rule = rule
        self._writer = writer
        self._run = run

    async def __call__(self) -> None:
        pending: deque[tuple[Record, tuple[int, ...]]] = deque()
        inputs = _with_sources(self.records, self._run)

        def passing() -> Iterator[Record]:
            for item in inputs:
                pending.append(item)
                yield item[0]

        nothing: Counter[str] = Counter()
        position = -1
        for position, verdict in enumerate(self._rule(passing())):
            if not pending:
                raise ConfigError(
                    f"filter {self._writer.name!r} gave a verdict for no record, after those for the first {position}; "
                    "it must give one each, in order"
                )
            record, sources = pending.popleft()
            if verdict is not None and not isinstance(verdict, str):
                raise ConfigError(
                    f"filter {self._writer.name!r} gave {verdict!r} for record {record.id}; expected None (keep) or a "
                    "reason. A function that says True or False becomes a filter with synthkd.filters.each(...)"
                )
            if verdict is None:
                self._writer.accept(position, record, (record,), sources, nothing)
            else:
                self._run.counters.rejected += 1
                self._writer.reject(position, record, RecordError(verdict, reason=verdict), nothing)
            self._run.counters.done += 1
            if position % _BREATH == 0:
                await (self._run._database.committed() if self._run._database.crowded else asyncio.sleep(0))
        if pending or next(inputs, None) is not None:
            raise ConfigError(
                f"filter {self._writer.name!r} gave {position + 1} verdicts for more records; "
                "it must give one each, in order"
            )


def _with_sources(records: Iterable[Record], run: Run) -> Iterator[tuple[Record, tuple[int, ...]]]:
    if isinstance(records, Stage):
        foreign = records.database is not run._database
        yield from records.items(cache(partial(run._board.journal.adopted, records.database)) if foreign else None)
        return
    for number, record in enumerate(records, 1):
        if not isinstance(record, Record):
            raise ConfigError(
                f"input {number} is a {type(record).__name__}, expected a Record: "
                "read files with synthkd.data.read(...)"
            )
        yield record, ()


def _check_outputs(outputs: object) -> None:
    if type(outputs) is list or isinstance(outputs, Sequence | None):  # the first is the rule, and cheap to see
        for output in outputs or ():
            if not isinstance(output, Record):
                break
        else:
            return
    kind = type(outputs).__name__
    raise TypeError(f"the strategy gave back {kind} {str(outputs)[:80]!r}, expected a list of records")


def _note(error: Exception, text: str) -> None:
    """Say once where it happened; one failure may reach many records that shared a call."""
    if text[:11] not in {note[:11] for note in getattr(error, "__notes__", ())}:
        error.add_note(text)


def _first_of(error: Exception) -> Exception:
    """What a strategy's TaskGroup failed with; a failure that stops the run goes before one that rejects the record."""
    if not isinstance(error, ExceptionGroup):
        return error
    failures = [_first_of(inner) for inner in error.exceptions]
    return next((failure for failure in failures if not isinstance(failure, RecordError)), failures[0])


def _described(work: object) -> str:
    """A strategy or filter in one line, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(work))


def _name_of(work: object) -> str:
    name = getattr(work, "__name__", None) or type(work).__name__
    return name.strip("_<>").replace("_", "-").lower()


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _check_roles(roles: Mapping[str, Any]) -> None:
    for role, player in roles.items():
        if not isinstance(player, Teacher):
            raise ConfigError(
                f"role {role!r} was given {type(player).__name__}, expected a teacher "
                "such as OpenAITeacher('gpt-4.1-mini')"
            )
