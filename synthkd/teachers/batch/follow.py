"""A batch from its creation to its last line: the only place that polls one and says what became of each request.

Invariant: every line of a batch that has ended is answered, fails with what the provider says of it, or goes back to
be gathered again, at most `rounds` times; answers count whatever the batch's own end was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from synthkd.errors import TeacherError, TeacherUnavailable, Transient
from synthkd.request import Completion
from synthkd.teachers.batch.account import Account
from synthkd.teachers.batch.lines import Line, Refusal, answer_in
from synthkd.teachers.batch.options import Batch, Progress

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from openai.types import Batch as Job

_NO_ROOM = "token_limit_exceeded"
_REFUSES_ALL = frozenset({"model_not_found", "invalid_model", "billing_hard_limit_reached", "insufficient_quota"})
"""Codes of a failed validation that the next batch would meet as well."""


class Lines(Protocol):
    """Where lines come from and go back to."""

    def answer(self, line: Line, answer: Sequence[Completion] | Exception) -> None:
        """End a line."""

    def gather(self, lines: Iterable[Line]) -> None:
        """Put lines into the next batch."""

    def spawn(self, work: Coroutine[Any, Any, None], lines: Sequence[Line]) -> None:
        """Do work in the background."""

    async def submit(self, lines: Sequence[Line]) -> None:
        """Make a batch of lines."""


def ended(job: Job) -> bool:
    """Whether nothing more comes of a batch."""
    return job.status in ("completed", "failed", "expired", "cancelled")


class Follower:
    """Follows the batches of one desk."""

    def __init__(
        self,
        account: Account,
        refusal: Refusal,
        options: Batch,
        say: Callable[[str, int], None],
        desk: Lines,
    ) -> None:
        self._account = account
        self._refusal = refusal
        self._options = options
        self._say = say
        self._desk = desk
        self.running: set[str] = set()
        """Batches that are at work at the provider."""
        self.most = options.most_lines
        """Lines that the provider's queue has room for, as far as is known."""
        self.cramped = False
        """Whether that queue was ever full: from then on one batch goes at a time."""

    async def follow(self, job: Job, lines: Sequence[Line], *, adopted: bool, guessed: bool) -> Job:
        """See a batch through and end its lines; gives the batch as it was in the end.

        Args:
            job: the batch, as it was last seen.
            lines: those of its lines that somebody here waits for.
            adopted: an earlier process submitted it. If it had ended by then, only its answers count: what failed in
                it is asked for again, as it is with single calls.
            guessed: nobody knows which lines it holds; it is no fault of a line if it does not.
        """
        found, stopping = ended(job), job.status in ("cancelling", "cancelled")
        if not found:
            job = await self._end(job, len(lines))
        if job.status == "failed":
            self._turned_down(job, lines)
            return job
        owed = {line.id: line for line in lines}
        for file_id in (job.output_file_id, job.error_file_id):
            if file_id and owed and not (found and file_id == job.error_file_id):
                await self._join(file_id, owed)
        for line in owed.values():
            line.seen.add(job.id)
        if owed and job.status == "cancelled" and not (adopted and stopping):
            raise TeacherUnavailable(
                f"batch {job.id} was cancelled at the provider, {len(owed):,} of {len(lines):,} requests unanswered. "
                "What it answered is kept; run the same command again to ask for the rest."
            )
        self._again(owed.values(), free=found or guessed)
        return job

    async def _end(self, job: Job, total: int) -> Job:
        """Poll until a batch has ended."""
        pause, longest = self._options.poll_seconds
        shown: Progress | None = None
        self.running.add(job.id)
        while not ended(job):
            job = await self._account.look(job.id)
            counts = job.request_counts
            progress = Progress(
                job.id,
                job.status,
                counts.completed if counts else 0,
                counts.failed if counts else 0,
                counts.total or total if counts else total,
            )
            if progress != shown:
                shown = progress
                self._say(str(progress), logging.INFO)
                if self._options.progress is not None:
                    self._options.progress(progress)
            if not ended(job):
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, longest)
        self.running.discard(job.id)
        return job

    async def _join(self, file_id: str, owed: dict[str, Line]) -> None:
        """Answer the lines that a file answers, and take them out of what is owed."""
        try:
            async for text in self._account.lines(file_id):
                name, answer = answer_in(text, self._refusal)
                line = owed.get(name)
                if line is None:
                    continue
                if isinstance(answer, Transient):
                    line.said = str(answer)
                    continue
                del owed[name]
                self._desk.answer(line, answer)
        except TeacherError as error:  # the file is gone
            for line in owed.values():
                line.said = str(error)

    def _again(self, lines: Iterable[Line], *, free: bool) -> None:
        """Gather lines again that a batch left unanswered, or give them up."""
        left = []
        for line in lines:
            line.rounds += not free
            if line.rounds < self._options.rounds:
                left.append(line)
            else:
                self._desk.answer(line, TeacherError(f"{line.said} (in {line.rounds} batches)"))
        self._desk.gather(left)

    def _turned_down(self, job: Job, lines: Sequence[Line]) -> None:
        """A batch that failed validation: nothing of it was executed or billed."""
        errors = (job.errors.data if job.errors else None) or []
        codes = {error.code for error in errors}
        said = "; ".join(dict.fromkeys(str(error.message or error.code) for error in errors[:3])) or "no reason given"
        if _NO_ROOM in codes:
            self._make_room(lines, said)
        elif codes & _REFUSES_ALL:
            raise TeacherUnavailable(f"batch {job.id} was refused: {said}")
        else:
            blamed = {(error.line or 0) - 1: str(error.message) for error in errors}
            if not errors or not all(0 <= place < len(lines) for place in blamed):  # it is the file as a whole
                blamed = dict.fromkeys(range(len(lines)), said)
            for place, reason in blamed.items():
                self._desk.answer(
                    lines[place], TeacherError(f"the provider refused it before the batch began: {reason}")
                )
            self._desk.gather(line for place, line in enumerate(lines) if place not in blamed)

    def _make_room(self, lines: Sequence[Line], said: str) -> None:
        """The queue of the account is full: wait, and ask with less if nothing of ours is in it."""
        self.cramped = True
        if not self.running:
            if len(lines) == 1:
                lines[0].rounds += 1
                if lines[0].rounds >= self._options.rounds:
                    raise TeacherUnavailable(f"the provider has no room for a batch of one request: {said}")
            self.most = max(1, min(self.most, len(lines) // 2))
        self._say(f"the provider's queue is full ({said}); next {self.most:,} requests at a time", logging.WARNING)
        self._desk.spawn(self._later(lines), lines)

    async def _later(self, lines: Sequence[Line]) -> None:
        await asyncio.sleep(self._options.poll_seconds[1])
        await self._desk.submit(lines)
