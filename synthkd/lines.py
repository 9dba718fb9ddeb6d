"""The lines in front of all endpoints of a run: a call waits in one, is made, and is made again where that may help.

Invariant: a call that waits for its next try holds no place. An endpoint that never answers, or has long answered
nothing, stops the run instead of every record.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from synthkd.admission import Admission
from synthkd.errors import TeacherError, TeacherUnavailable, Transient
from synthkd.progress import Counters
from synthkd.request import Completion, Teacher

X = TypeVar("X")
Act = Callable[[], Awaitable[Sequence[X]]]

_KNOCKS = 4
"""Tries to reach an endpoint that has not answered even once: a wrong URL should be heard of soon."""
_GIVE_UP_AFTER = 16
"""Calls in a row that used up their tries, after which an endpoint counts as dead."""


class Lines:
    """A line for each endpoint, shared by every role and stage that uses it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lines: dict[str, Admission] = {}
        self._failures: Counter[str] = Counter()
        self._answered: set[str] = set()

    async def call(self, teacher: Teacher, lane: Hashable, n: int, act: Act[X]) -> Sequence[X]:
        """Do something at a teacher's endpoint once there is a place; transient failures are tried again.

        Args:
            teacher: whose endpoint and limits.
            lane: those who wait in different lanes take turns.
            n: how many completions it asks for.
            act: what is done; completions that it gives are counted.

        Raises:
            TeacherError: it was refused, or has used up its tries.
            TeacherUnavailable: the endpoint refuses everyone, or is not there.
        """
        endpoint = teacher.limits.endpoint
        try:
            found = await self._attempt(teacher, lane, n, act)
        except Transient as error:
            found = await self._again(teacher, lane, n, act, error)
        self._answered.add(endpoint)
        self._failures[endpoint] = 0
        return found

    async def _again(self, teacher: Teacher, lane: Hashable, n: int, act: Act[X], first: Transient) -> Sequence[X]:
        limits = teacher.limits
        pause = wait_random_exponential(multiplier=0.5, max=limits.longest_wait)

        def waiting(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, Transient) else None
            # The line is silent until then anyway; a little jitter spreads those who come back.
            return asked + random.uniform(0, 0.1) if asked is not None else pause(state)

        def stop(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            nobody = isinstance(error, Transient) and error.unreachable and limits.endpoint not in self._answered
            return state.attempt_number >= (min(limits.tries, _KNOCKS) if nobody else limits.tries)

        retrying = AsyncRetrying(
            stop=stop,
            wait=waiting,
            retry=retry_if_exception_type(Transient),
            reraise=True,
        )
        failures: list[Transient] = [first]
        try:
            async for attempt in retrying:
                with attempt:
                    if failures:
                        raise failures.pop()  # the attempt that was already made counts as the first
                    self._counters.retries += 1
                    return await self._attempt(teacher, lane, n, act)
        except Transient as error:
            raise self._final(teacher, error) from error
        raise AssertionError("unreachable")

    async def _attempt(self, teacher: Teacher, lane: Hashable, n: int, act: Act[X]) -> Sequence[X]:
        line, counters = self._line(teacher), self._counters
        expected = line.expected(n)
        entered = await line.enter(lane, expected)
        counters.in_flight += 1
        try:
            found = await act()
            line.answered(entered)
            quota = getattr(teacher, "quota", None)
            if expected or quota is not None:
                line.took(expected, [one for one in found if isinstance(one, Completion)], quota)
                counters.silent_until = max(counters.silent_until, line.quiet_until)
            return found
        except Transient as error:
            line.refused(entered, error.retry_after)
            counters.silent_until = max(counters.silent_until, line.quiet_until)
            raise
        except TeacherError:
            line.answered(entered)  # a refusal of this one request says nothing about the endpoint's capacity
            raise
        finally:
            counters.in_flight -= 1
            line.leave()

    def _final(self, teacher: Teacher, error: Transient) -> Exception:
        endpoint, tries = teacher.limits.endpoint, teacher.limits.tries
        self._failures[endpoint] += 1
        if endpoint not in self._answered and error.unreachable:
            return TeacherUnavailable(
                f"nothing answers at {endpoint}: {error}. Is the server running, and is the URL right?"
            )
        if self._failures[endpoint] >= _GIVE_UP_AFTER:
            return TeacherUnavailable(
                f"{endpoint}: {self._failures[endpoint]} calls in a row failed {tries} times each, "
                f"the last with: {error}. Run the same command again when it is back."
            )
        return TeacherError(f"{error} (after {tries} tries)")

    def _line(self, teacher: Teacher) -> Admission:
        limits = teacher.limits
        line = self._lines.get(limits.endpoint)
        if line is None:
            line = self._lines[limits.endpoint] = Admission(limits)
        elif line.limits is not limits:
            line.narrow(limits)
        return line
