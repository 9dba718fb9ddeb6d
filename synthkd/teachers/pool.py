"""One model on several endpoints as one teacher: the only place that chooses between endpoints.

Each member has a line of its own, with its own limit and its own silence (Retry-After); a call goes where the line is
emptiest. Invariant: a call that fails at one member is made by another before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable, Transient
from synthkd.message import Message
from synthkd.prices import Price, price_of
from synthkd.request import Completion, Limits, Request, Scorer, Teacher
from synthkd.teachers.crew import Act, Crew, Member

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
            adaptive=False,  # each member has a line of its own, which is
            tries=max(one.tries for one in limits),
            longest_wait=max(one.longest_wait for one in limits),
        )
        self._price: Price | None = None
        self._pauses = (pause, longest_pause)
        self._crews: dict[asyncio.AbstractEventLoop, Crew] = {}
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
        return await self._asked(lambda member: member.generate(request, n), request.prompt, n)

    async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
        """Log-probabilities of a completion's tokens, from the member with the emptiest line.

        Raises:
            ConfigError: a member cannot tell them.
            Transient, TeacherUnavailable, TeacherError: as for a completion.
        """
        if mute := [member for member in self.members if not isinstance(member, Scorer)]:
            raise ConfigError(f"{mute[0]!r} in the pool cannot score texts: it has no method `score`")
        return await self._asked(lambda member: member.score(messages, completion), "score", 1)

    async def _asked(self, act: Act, lane: str, n: int) -> list[Any]:
        crew = self._crew()
        failed: set[Member] = set()
        last: Transient | None = None
        while True:
            member = crew.choose(failed)
            if member is None:
                if last is not None and any(one.state == "in" for one in crew.members):
                    raise crew.outward(last) from last
                await crew.change()
                continue
            trying = member.state == "trying"
            try:
                found = await member.asked(act, lane, n, trying)
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
                if found is not None:
                    crew.answered(member)
                    return found

    async def aclose(self) -> None:
        """Close every member."""
        self._crews.pop(asyncio.get_running_loop(), None)
        for member in self.members:
            await member.aclose()

    def _crew(self) -> Crew:
        loop = asyncio.get_running_loop()  # each run has its own, and a pool may serve several runs
        crew = self._crews.get(loop)
        if crew is None:
            crew = self._crews[loop] = Crew(self.members, *self._pauses, lambda text: self._say(text))
        return crew


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
