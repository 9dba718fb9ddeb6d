"""The members of a pool as one event loop sees them: who is asked, who is taken out, and who comes back.

A member that cannot be reached, refuses everyone, or fails several times in a row is taken out for a pause that doubles
each time; then one call tries it, and what it answers brings it back. Invariant: while a member may come back calls
wait for it; once none will, all of them hear TeacherUnavailable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from synthkd.admission import Admission
from synthkd.errors import TeacherUnavailable, Transient
from synthkd.request import Completion, Teacher

_IN_A_ROW = 4
"""Failures without an answer between them after which a member is taken out, although it can be reached."""
_BUSY = 429
Act = Callable[[Any], Awaitable[list[Any]]]
"""What is asked of a member."""


@dataclass(slots=True, eq=False)
class Member:
    """A teacher of the pool, as one event loop sees it."""

    teacher: Teacher
    line: Admission
    state: Literal["in", "out", "due", "trying"] = "in"
    """Asked; left alone; to be tried by the next call; being tried by one."""
    load: int = 0
    """Calls that wait in its line or are on their way."""
    calls: int = 0
    failures: int = 0
    """In a row."""
    rounds: int = 0
    """How often it was taken out since it last answered."""
    refuses: bool = False
    """Whether it last refused everyone: a wrong key, an unknown model."""
    said: str = ""
    """Its last failure."""
    alarm: asyncio.TimerHandle | None = None
    """Rings when the pause is over."""

    async def asked(self, act: Act, lane: str, n: int, trying: bool) -> list[Any] | None:
        """What the member gives, once its line has a place; None if it was taken out while this call waited."""
        line, teacher = self.line, self.teacher
        self.load += 1
        try:
            expected = line.expected(n)
            entered = await line.enter(lane, expected)
            try:
                if self.state != "in" and not trying:
                    return None
                self.calls += 1
                found = await act(teacher)
                line.answered(entered)
                completions = [one for one in found if isinstance(one, Completion)]
                line.took(expected, completions, getattr(teacher, "quota", None))
                return found
            except Transient as error:
                line.refused(entered, error.retry_after)
                raise
            finally:
                line.leave()
        finally:
            self.load -= 1

    @property
    def dead(self) -> bool:
        """Whether nobody waits for it any more, although it is tried now and then."""
        return self.state != "in" and (self.refuses or self.rounds >= self.teacher.limits.tries)


class Crew:
    """The members on one event loop, and the calls that wait because all of them are out."""

    def __init__(self, teachers: Sequence[Teacher], pause: float, longest: float, say: Callable[[str], None]) -> None:
        self.members = [Member(teacher, Admission(teacher.limits)) for teacher in teachers]
        self._pause, self._longest = pause, longest
        self._say = say
        self._waiting: deque[asyncio.Future[None]] = deque()

    def choose(self, failed: set[Member]) -> Member | None:
        """Who is asked: one that is due to be tried, else the emptiest line of those that have not failed this call."""
        for member in self.members:
            if member.state == "due":
                member.state = "trying"
                return member
        now = asyncio.get_running_loop().time()
        able = [member for member in self.members if member.state == "in" and member not in failed]
        return min(
            able,
            key=lambda one: (max(one.line.quiet_until - now, 0.0), one.load / one.line.capacity.limit, one.calls),
            default=None,
        )

    async def change(self) -> None:
        """Wait until there is somebody to ask.

        Raises:
            TeacherUnavailable: nobody will come back.
        """
        if all(member.dead for member in self.members):
            told = "; ".join(member.said for member in self.members)
            raise TeacherUnavailable(f"no member of the pool answers any more: {told}")
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # woken and cancelled at once: wake another
                self._wake(1)
            with suppress(ValueError):
                self._waiting.remove(place)
            raise

    def answered(self, member: Member) -> None:
        """A member works."""
        member.failures = member.rounds = 0
        member.refuses = False
        if member.state != "in":
            member.state = "in"
            if member.alarm is not None:
                member.alarm.cancel()
            self._say(f"{member.teacher.limits.endpoint} is back")
            self._wake(len(self._waiting))

    def failed(self, member: Member, error: TeacherUnavailable | Transient, trying: bool) -> None:
        """A call failed: the member is left alone for as long as it asks for, or taken out."""
        if member.state != "in" and not trying:
            return  # it was sent before the member was taken out
        member.said = str(error)
        gone = isinstance(error, TeacherUnavailable)
        if isinstance(error, Transient):
            member.failures += error.status != _BUSY
            gone = error.unreachable or member.failures >= _IN_A_ROW
        if gone or trying:
            self._take_out(member, isinstance(error, TeacherUnavailable))

    def due(self, member: Member) -> None:
        """The pause is over, or whoever tried the member gave up: the next call tries it."""
        if member.state != "in":
            member.state = "due"
            self._wake(1)

    def outward(self, last: Transient) -> Transient:
        """The failure as the pool's own: it asks for silence only where every member does."""
        now = asyncio.get_running_loop().time()
        silence = min(member.line.quiet_until - now for member in self.members if member.state == "in")
        return Transient(str(last), retry_after=silence if silence > 0 else None, status=last.status)

    def _take_out(self, member: Member, refuses: bool) -> None:
        member.refuses = refuses
        pause = min(self._pause * 2.0 ** min(member.rounds, 64), self._longest)
        member.state = "out"
        member.rounds += 1
        member.failures = 0
        member.alarm = asyncio.get_running_loop().call_later(pause, self.due, member)
        self._say(f"{member.said} (taken out of the pool for {pause:g} s)")
        if all(one.dead for one in self.members):
            self._wake(len(self._waiting))

    def _wake(self, most: int) -> None:
        while self._waiting and most:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                most -= 1
