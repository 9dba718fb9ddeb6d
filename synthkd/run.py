"""A run: a folder, an event loop, and the teachers by role; it maps strategies over records.

The program is the graph and the journal is the checkpoint: running the same program on the same folder again makes
only the calls that are still owed. Invariant: memory is bounded by what is in flight, not by the number of records.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from synthkd.ask import Strategy
from synthkd.budget import Budget
from synthkd.database import Database
from synthkd.errors import ConfigError, SynthKDError
from synthkd.folder import Folder, resume_hint
from synthkd.journal import Journal
from synthkd.loop import Loop
from synthkd.passes import FilterPass, StrategyPass
from synthkd.progress import Counters, LiveView
from synthkd.record import Record
from synthkd.request import Teacher
from synthkd.stage import Stage
from synthkd.switchboard import Switchboard
from synthkd.writer import StageWriter

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)
R = TypeVar("R", bound=Record)


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
        work = StrategyPass(strategy, records, {**self.roles, **roles}, writer, self._board, self.seed, self._width)
        return self._perform(writer, work)

    def filter(self, rule: Filter[R], records: Iterable[R], *, name: str | None = None) -> Stage[R]:
        """Keep the records that a filter has nothing against; the others become rejects with its reason."""
        writer = self._new_stage(name or _name_of(rule), _described(rule), records)
        return self._perform(writer, FilterPass(rule, records, writer, self._board))

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

    def _perform(self, writer: StageWriter, work: StrategyPass | FilterPass) -> Stage[Any]:
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
