"""One model on several endpoints as one teacher: the only place that chooses between endpoints.

Each member has a line of its own, with its own limit and its own silence (Retry-After); a call goes where the line is
emptiest. A member that cannot be reached, refuses everyone, or fails several times in a row is taken out for a pause
that doubles each time; then one call tries it, and what it answers brings it back. Invariants: a call that fails at one
member is made by another before anybody hears of it; while a member may come back calls wait for it; once none will,
all of them hear TeacherUnavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from synthkd.admission import Admission
from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable, Transient
from synthkd.prices import Price, price_of
from synthkd.request import Completion, Limits, Request, Teacher

_IN_A_ROW = 4
"""Failures without an answer between them after which a member is taken out, although it can be reached."""
_BUSY = 429

_log = logging.getLogger("synthkd.pool")


class TeacherPool:
    """The same model on several servers, or behind several keys, playing one role together.

    Args:
        members: the teachers: one model, with the same defaults for sampling.
        identity: under which completions are journaled. By default that of the members without their endpoints
            (`pool#Qwen/Qwen3-8B`), so that servers may come and go without a call being paid for again; members that
            are one teacher with several keys keep their own. Give one to say that different names are the same model.
        pause: seconds for which a member is taken out at first; it doubles while the member stays dead.
        longest_pause: the most that this grows to.

    Raises:
        ConfigError: no members, members of different models, or members that differ in what they are asked.
    """

    def __init__(
        self,
        members: Sequence[Teacher],
        *,
        identity: str | None = None,
        pause: float = 0.5,
        longest_pause: float = 30.0,
    ) -> None:
        if not members:
            raise ConfigError("TeacherPool([]): at least one teacher is needed")
        if not 0 < pause <= longest_pause:
            raise ConfigError(f"pause={pause}, longest_pause={longest_pause}: expected 0 < pause <= longest_pause")
        self.members = tuple(members)
        self.identity = identity or _shared_identity(self.members)
        self.sampling = self.members[0].sampling
        if any(member.sampling != self.sampling for member in self.members):
            raise ConfigError("the members of a TeacherPool differ in their sampling: give all of them the same")
        if any(hasattr(member, "generate_named") for member in self.members):
            raise ConfigError("a teacher with batch= cannot be in a TeacherPool: its batches are found again by name")
        self.native_schema = all(member.native_schema for member in self.members)
        limits = [member.limits for member in self.members]
        self.limits = Limits(
            endpoint=f"pool:{'+'.join(one.endpoint for one in limits)}",
            max_in_flight=sum(one.max_in_flight for one in limits),
            tries=max(one.tries for one in limits),
            longest_wait=max(one.longest_wait for one in limits),
        )
        self._price: Price | None = None
        self._pauses = (pause, longest_pause)
        self._crews: dict[asyncio.AbstractEventLoop, _Crew] = {}
        self._say: Callable[[str], None] = _log.warning

    def __repr__(self) -> str:
        return f"TeacherPool([{', '.join(map(repr, self.members))}])"

    @property
    def price(self) -> Price | None:
        """What was set; else the dearest of the members' prices, or None where one of them is unknown."""
        if self._price is not None:
            return self._price
        known = [price for member in self.members if (price := price_of(member)) is not None]
        if len(known) < len(self.members):
            return None
        cached = max(price.prompt if price.cached is None else price.cached for price in known)
        return Price(max(price.prompt for price in known), max(price.completion for price in known), cached)

    @price.setter
    def price(self, price: Price | None) -> None:
        self._price = price

    def watch(self, say: Callable[[str], None]) -> None:
        """Say through this function what otherwise goes to the log `synthkd.pool`: who is taken out and comes back."""
        self._say = say

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Draw from the member with the emptiest line; where that one fails, from another.

        Raises:
            Transient: each member that is in has failed this call.
            TeacherUnavailable: all members are dead.
            TeacherError: a member refuses this one request.
        """
        crew = self._crew()
        failed: set[_Member] = set()
        last: Transient | None = None
        while True:
            member = crew.choose(failed)
            if member is None:
                if last is not None and any(one.state == "in" for one in crew.members):
                    raise crew.outward(last) from last
                await crew.change()
                continue
            trying = member.state == "trying"
            member.load += 1
            try:
                async with member.line:
                    if member.state != "in" and not trying:
                        continue  # it was taken out while this call waited
                    member.calls += 1
                    found = await member.teacher.generate(request, n)
            except (TeacherUnavailable, Transient) as error:
                crew.failed(member, error, trying)
                if member.state == "in" and isinstance(error, Transient):
                    failed.add(member)
                    last = error
            except BaseException as error:
                if isinstance(error, TeacherError):  # a refusal of this request is an answer
                    crew.answered(member)
                elif trying:
                    crew.due(member)
                raise
            else:
                crew.answered(member)
                return found
            finally:
                member.load -= 1

    async def aclose(self) -> None:
        """Close every member."""
        self._crews.pop(asyncio.get_running_loop(), None)
        for member in self.members:
            await member.aclose()

    def _crew(self) -> _Crew:
        loop = asyncio.get_running_loop()  # each run has its own, and a pool may serve several runs
        crew = self._crews.get(loop)
        if crew is None:
            crew = self._crews[loop] = _Crew(self.members, *self._pauses, lambda text: self._say(text))
        return crew


@dataclass(slots=True, eq=False)
class _Member:
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
    silent_until: float = 0.0
    alarm: asyncio.TimerHandle | None = None
    """Rings when the pause is over."""

    @property
    def dead(self) -> bool:
        """Whether nobody waits for it any more, although it is tried now and then."""
        return self.state != "in" and (self.refuses or self.rounds >= self.teacher.limits.tries)


class _Crew:
    """The members on one event loop, and the calls that wait because all of them are out."""

    def __init__(self, teachers: Sequence[Teacher], pause: float, longest: float, say: Callable[[str], None]) -> None:
        self.members = [_Member(teacher, Admission(teacher.limits.max_in_flight)) for teacher in teachers]
        self._pause, self._longest = pause, longest
        self._say = say
        self._waiting: deque[asyncio.Future[None]] = deque()

    def choose(self, failed: set[_Member]) -> _Member | None:
        """Who is asked: one that is due to be tried, else the emptiest line of those that have not failed this call."""
        for member in self.members:
            if member.state == "due":
                member.state = "trying"
                return member
        now = asyncio.get_running_loop().time()
        able = [member for member in self.members if member.state == "in" and member not in failed]
        return min(
            able,
            key=lambda one: (max(one.silent_until - now, 0.0), one.load / one.line.limit, one.calls),
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

    def answered(self, member: _Member) -> None:
        """A member works."""
        member.failures = member.rounds = 0
        member.refuses = False
        if member.state != "in":
            member.state = "in"
            if member.alarm is not None:
                member.alarm.cancel()
            self._say(f"{member.teacher.limits.endpoint} is back")
            self._wake(len(self._waiting))

    def failed(self, member: _Member, error: TeacherUnavailable | Transient, trying: bool) -> None:
        """A call failed: the member is left alone for as long as it asks for, or taken out."""
        if member.state != "in" and not trying:
            return  # it was sent before the member was taken out
        member.said = str(error)
        gone = isinstance(error, TeacherUnavailable)
        if isinstance(error, Transient):
            if error.retry_after is not None:
                member.line.silence(error.retry_after)
                until = asyncio.get_running_loop().time() + error.retry_after
                member.silent_until = max(member.silent_until, until)
            member.failures += error.status != _BUSY
            gone = error.unreachable or member.failures >= _IN_A_ROW
        if gone or trying:
            self._take_out(member, isinstance(error, TeacherUnavailable))

    def due(self, member: _Member) -> None:
        """The pause is over, or whoever tried the member gave up: the next call tries it."""
        if member.state != "in":
            member.state = "due"
            self._wake(1)

    def outward(self, last: Transient) -> Transient:
        """The failure as the pool's own: it asks for silence only where every member does."""
        now = asyncio.get_running_loop().time()
        silence = min(member.silent_until - now for member in self.members if member.state == "in")
        return Transient(str(last), retry_after=silence if silence > 0 else None, status=last.status)

    def _take_out(self, member: _Member, refuses: bool) -> None:
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


def _shared_identity(members: Sequence[Teacher]) -> str:
    """What is left of the members' identities without their endpoints."""
    whole = {member.identity for member in members}
    if len(whole) == 1:
        return whole.pop()
    bare = {member.identity.removeprefix(member.limits.endpoint) for member in members}
    if len(bare) > 1:
        raise ConfigError(
            f"the members of a TeacherPool are different models: {', '.join(sorted(whole))}. Their answers would be "
            "journaled under one name. If they are the same model, say so: TeacherPool([...], identity='NAME')."
        )
    return f"pool{bare.pop()}"
