"""Where requests wait for their batch: the only place that decides when a file is closed and which batch holds what.

The provider's list of batches is the truth about what was submitted; nothing is written down here. Invariants: before
a line is submitted, every batch of this run that may hold it has been asked; a line that somebody waits for ends with
an answer, an error, or in the next batch.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from synthkd.errors import SynthKDError, TeacherError
from synthkd.request import Completion, Request
from synthkd.teachers.batch.account import Account
from synthkd.teachers.batch.follow import Follower, ended
from synthkd.teachers.batch.lines import Body, Line, Refusal, id_in, line_id, short
from synthkd.teachers.batch.options import Batch

if TYPE_CHECKING:
    from openai.types import Batch as Job

_MARK = "synthkd"
_FORMAT = "1"
_LAST_WORD = 5.0
"""Seconds that a submission under way gets when what runs shall be cancelled."""


@dataclass(slots=True, eq=False)
class Known:
    """A batch of this run, and what it holds."""

    job: Job
    held: array[int] | None = None
    """The ids of its lines (of its answers, once it has ended) as sorted 64-bit numbers; None: not read yet."""
    unreadable: bool = False
    """Its input file cannot be read, so it may hold anything."""

    def holds(self, line: Line) -> bool:
        if self.job.status == "failed" or self.job.id in line.seen:
            return False
        if self.unreadable or self.held is None:
            return True
        wanted = short(line.id)
        place = bisect_left(self.held, wanted)
        return place < len(self.held) and self.held[place] == wanted


class Desk:
    """The lines of one run on one event loop."""

    def __init__(
        self,
        account: Account,
        identity: str,
        run: str,
        body: Body,
        refusal: Refusal,
        options: Batch,
        say: Callable[[str, int], None],
    ) -> None:
        self._account = account
        self._body = body
        self._options = options
        self._say = say
        self._mark = {
            _MARK: _FORMAT,
            "teacher": blake2b(identity.encode(), digest_size=8).hexdigest(),
        }
        self._run = run
        self._lines: dict[str, Line] = {}
        self._gathering: list[Line] = []
        self._size = 0
        self._last = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._known: list[Known] | None = None
        self._listing = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._creating: set[asyncio.Task[Job]] = set()
        self._follower = Follower(account, refusal, options, say, self)

    async def draw(self, request: Request[Any], names: Sequence[bytes]) -> list[Completion]:
        """Wait for the answer to one line."""
        name = line_id(names)
        line = self._lines.get(name)
        if line is None:
            line = Line(name, request, len(names))
            line.size = len(line.encoded(self._body))
            if line.size > self._options.most_bytes:
                raise TeacherError(f"the request has {line.size:,} bytes, a batch file {self._options.most_bytes:,}")
            self._lines[name] = line
            self.gather([line])
        caller: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        line.callers.append(caller)
        return await caller

    def answer(self, line: Line, answer: Sequence[Completion] | Exception) -> None:
        """End a line; whoever waits for it hears."""
        self._lines.pop(line.id, None)
        for caller in line.callers:
            if caller.done():
                continue
            if isinstance(answer, Exception):
                # One each: an exception that many raise grows a traceback of all of them.
                caller.set_exception(type(answer)(*answer.args) if isinstance(answer, SynthKDError) else answer)
            else:
                caller.set_result(list(answer))

    def gather(self, lines: Iterable[Line]) -> None:
        """Put lines into the file that is being gathered."""
        loop = asyncio.get_running_loop()
        for line in lines:
            full = self._size + line.size > self._options.most_bytes
            if full or len(self._gathering) >= self._options.most_lines:
                self._close()
            self._gathering.append(line)
            self._size += line.size
        self._last = loop.time()
        if len(self._gathering) >= self._options.most_lines:
            self._close()
        elif self._gathering and self._alarm is None:
            self._alarm = loop.call_later(self._options.gather_seconds, self._ring)

    def spawn(self, work: Coroutine[Any, Any, None], lines: Sequence[Line]) -> None:
        """Do work in the background; if it fails, these lines fail."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                for line in lines:
                    if line.id in self._lines:
                        self.answer(line, error)

        running = asyncio.create_task(guarded())
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    async def submit(self, lines: Sequence[Line]) -> None:
        """Make a batch of lines that no batch holds, and follow it to its end."""
        if not self._follower.cramped:
            await self._carry(lines)
            return
        async with self._turn:
            now, rest = lines[: self._follower.most], lines[self._follower.most :]
            if rest:
                self.spawn(self.submit(rest), rest)
            await self._carry(now)

    async def aclose(self) -> None:
        """Stop: what is not submitted is forgotten, what runs is left or cancelled."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._options.cancel_on_stop and self._creating:
            await asyncio.wait(self._creating, timeout=_LAST_WORD)
        running = set(self._follower.running) | {
            made.result().id for made in self._creating if made.done() and not (made.cancelled() or made.exception())
        }
        for background in [*self._tasks, *self._creating]:
            background.cancel()
        await asyncio.gather(*self._tasks, *self._creating, return_exceptions=True)
        for line in self._lines.values():
            for caller in line.callers:
                caller.cancel()
        self._lines.clear()
        try:
            if running:
                await self._part_from(sorted(running))
        finally:
            await self._account.aclose()

    async def _part_from(self, running: list[str]) -> None:
        names = ", ".join(running[:3]) + ", ..." * (len(running) > 3)
        which = f"{len(running)} batch{'es' * (len(running) > 1)} ({names})"
        if not self._options.cancel_on_stop:
            self._say(
                f"{which} left running at the provider: the next run in this folder takes over what they answer. "
                "Batch(cancel_on_stop=True) cancels instead.",
                logging.WARNING,
            )
            return
        for job_id in running:
            try:
                await self._account.cancel(job_id)
            except SynthKDError as error:  # it may have ended by now
                self._say(f"batch {job_id} could not be cancelled: {error}", logging.WARNING)
        self._say(f"{which} cancelled; the next run in this folder uses what was answered by then", logging.WARNING)

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last + self._options.gather_seconds - loop.time()
        if left > 0.001:  # somebody came meanwhile
            self._alarm = loop.call_later(left, self._ring)
        else:
            self._close()

    def _close(self) -> None:
        lines, self._gathering, self._size = self._gathering, [], 0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if lines:
            self.spawn(self._place(lines), lines)

    async def _place(self, lines: Sequence[Line]) -> None:
        """Leave each line to a batch that holds it, and submit the rest."""
        left: list[Line] = []
        for line in lines:
            if line.wanted:
                left.append(line)
            else:
                self._lines.pop(line.id, None)
        async with self._listing:
            if self._known is None:
                self._known = [Known(job) async for job in self._account.jobs() if self._ours(job)]
        for known in list(self._known):
            if not left:
                break
            if not any(known.job.id not in line.seen for line in left):
                continue
            await self._read(known)
            mine = [line for line in left if known.holds(line)]
            if mine:
                left = [line for line in left if not known.holds(line)]
                self.spawn(self._follow(known, mine, adopted=True), mine)
            await asyncio.sleep(0)
        if left:
            self.spawn(self.submit(left), left)

    def _ours(self, job: Job) -> bool:
        told = job.metadata or {}
        same = all(told.get(name) == value for name, value in self._mark.items())
        return same and told.get("run", "") == self._run and job.status != "failed"

    async def _read(self, known: Known) -> None:
        """Learn which lines a batch holds: those of its input while it runs, those it has answered afterwards."""
        if known.held is not None or known.unreadable:
            return
        job = known.job
        file_id = job.output_file_id if ended(job) else job.input_file_id
        held: list[int] = []
        try:
            if file_id:
                held = [short(id_in(line)) async for line in self._account.lines(file_id)]
        except TeacherError:
            known.unreadable = not ended(job)
        known.held = array("Q", sorted(number for number in held if number >= 0))

    async def _carry(self, lines: Sequence[Line]) -> None:
        name = f"synthkd-{line_id([bytes.fromhex(line.id) for line in lines])}.jsonl"
        with tempfile.TemporaryFile() as file:
            await asyncio.to_thread(file.writelines, (line.encoded(self._body) for line in lines))
            file_id = await self._account.upload(file, name)
        run = {"run": self._run} if self._run else {}
        making = asyncio.create_task(self._account.create(file_id, {**self._mark, **run, "requests": str(len(lines))}))
        self._creating.add(making)
        making.add_done_callback(self._creating.discard)
        job = await asyncio.shield(making)
        assert self._known is not None
        known = Known(job, array("Q", sorted(short(line.id) for line in lines)))
        self._known.insert(0, known)
        await self._follow(known, lines, adopted=False)

    async def _follow(self, known: Known, lines: Sequence[Line], *, adopted: bool) -> None:
        known.job = await self._follower.follow(known.job, lines, adopted=adopted, guessed=known.unreadable)
