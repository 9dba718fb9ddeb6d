"""The one road from a request to a typed reply: look up, admit, generate, record, parse, ask again with the error.

Strategies get an `Ask` and nothing else, so that everything that costs money, time or determinism passes here.
Invariant: a completion is in the journal before a strategy sees it, and equal requests in flight share one call.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from synthkd.admission import Admission
from synthkd.budget import Budget
from synthkd.errors import (
    ConfigError,
    ParseError,
    RecordError,
    TeacherError,
    TeacherUnavailable,
    Transient,
    Truncated,
    UnknownTeacher,
)
from synthkd.journal import Journal
from synthkd.progress import Counters
from synthkd.record import Record
from synthkd.reply import Reply, parse, repair_turn, with_schema
from synthkd.request import Completion, Request, Sampling, Teacher, keys

T = TypeVar("T")

_KNOCKS = 4
"""Tries to reach an endpoint that has not answered even once: a wrong URL should be heard of soon."""
_GIVE_UP_AFTER = 16
"""Calls in a row that used up their tries, after which an endpoint counts as dead."""


class Switchboard:
    """What all asks of a run share: the journal, the budget, a line per endpoint, and the calls in flight."""

    def __init__(self, journal: Journal, counters: Counters, budget: Budget | None = None) -> None:
        self.journal = journal
        self.counters = counters
        self.budget = budget or Budget()
        self._lines: dict[str, Admission] = {}
        self._failures: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._in_flight: dict[bytes, asyncio.Future[Completion]] = {}

    async def draw(self, teacher: Teacher, request: Request[Any], indices: Sequence[int]) -> list[Completion]:
        """The draws with these sample indices: from the journal, from a call in flight, or from the teacher."""
        wanted = keys(teacher.identity, request, indices)
        if len(wanted) == 1 and wanted[0] not in self._in_flight:
            if (replayed := self.journal.find(wanted[0])) is not None:
                self.counters.replayed += 1
                return [replayed]
            return await self._owned(teacher, request, [(wanted[0], indices[0])])
        found: dict[int, Completion] = {}
        shared: dict[int, asyncio.Future[Completion]] = {}
        owed: list[int] = []
        for place, key in enumerate(wanted):
            if (flying := self._in_flight.get(key)) is not None:
                shared[place] = flying
            elif (known := self.journal.find(key)) is not None:
                found[place] = known
                self.counters.replayed += 1
            else:
                owed.append(place)
        if owed:
            drawn = await self._owned(teacher, request, [(wanted[place], indices[place]) for place in owed])
            found.update(zip(owed, drawn, strict=True))
        for place, flying in shared.items():
            try:
                found[place] = await asyncio.shield(flying)
            except asyncio.CancelledError:
                mine = asyncio.current_task()
                if not flying.cancelled() or (mine is not None and mine.cancelling()):
                    raise
                # Whoever made the call gave it up (a timeout of its own, say); that is no reason for others to.
                [found[place]] = await self.draw(teacher, request, (indices[place],))
        return [found[place] for place in range(len(wanted))]

    async def quiet(self) -> None:
        """Wait for calls that nobody waits for any more, as when one of a record's calls failed: they are paid for."""
        while self._in_flight:
            await asyncio.wait(list(self._in_flight.values()))

    async def _owned(
        self, teacher: Teacher, request: Request[Any], draws: Sequence[tuple[bytes, int]]
    ) -> list[Completion]:
        """Make the call for these draws; whoever asks for the same meanwhile waits for the same futures."""
        futures = [asyncio.get_running_loop().create_future() for _ in draws]
        self._in_flight.update((key, future) for (key, _), future in zip(draws, futures, strict=True))
        try:
            completions = await self._call(teacher, request, draws)
        except BaseException as error:
            for future in futures:
                if isinstance(error, asyncio.CancelledError):
                    future.cancel()
                else:
                    future.set_exception(error)
                    future.exception()  # heard here, so that a future nobody shares does not complain
            raise
        finally:
            for key, _ in draws:
                del self._in_flight[key]
        for future, completion in zip(futures, completions, strict=True):
            future.set_result(completion)
        return completions

    async def _call(
        self, teacher: Teacher, request: Request[Any], draws: Sequence[tuple[bytes, int]]
    ) -> list[Completion]:
        source = self.journal.source(teacher.identity, request)
        completions: list[Completion] = []
        while len(completions) < len(draws):  # some servers answer a request for n with fewer choices
            rest = draws[len(completions) :]
            began = time.monotonic()
            with await self.budget.reserve(teacher, request, len(rest)) as reserved:
                got = (await self._admitted(teacher, request, [key for key, _ in rest]))[: len(rest)]
                costs = reserved.settle(got)
            if not got:
                raise TeacherError(f"{teacher.identity} answered without any choice")
            rows = [(key, index, completion) for (key, index), completion in zip(rest, got, strict=False)]
            got = await self.journal.record(rows, source, request, time.monotonic() - began, costs)
            for completion, cost in zip(got, costs, strict=True):
                self.counters.calls += 1
                self.counters.prompt_tokens += completion.usage.prompt_tokens
                self.counters.completion_tokens += completion.usage.completion_tokens
                self.counters.cost += cost or 0.0
            completions += got
        return completions

    async def _admitted(self, teacher: Teacher, request: Request[Any], names: Sequence[bytes]) -> list[Completion]:
        """Generate, in a place of the endpoint's line; transient failures are tried again outside of it."""
        endpoint = teacher.limits.endpoint
        try:
            completions = await self._attempt(teacher, request, names)
        except Transient as error:
            completions = await self._again(teacher, request, names, error)
        self._answered.add(endpoint)
        self._failures[endpoint] = 0
        return completions

    async def _again(
        self, teacher: Teacher, request: Request[Any], names: Sequence[bytes], first: Transient
    ) -> list[Completion]:
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
                    self.counters.retries += 1
                    return await self._attempt(teacher, request, names)
        except Transient as error:
            raise self._final(teacher, error) from error
        raise AssertionError("unreachable")

    async def _attempt(self, teacher: Teacher, request: Request[Any], names: Sequence[bytes]) -> list[Completion]:
        line = self._line(teacher)
        named = getattr(teacher, "generate_named", None)  # its calls outlive the process, and are found again by name
        async with line:
            self.counters.in_flight += 1
            try:
                if named is not None:
                    return list(await named(request, names, self.journal.run))
                return await teacher.generate(request, len(names))
            except Transient as error:
                if error.retry_after is not None:
                    line.silence(error.retry_after)
                raise
            finally:
                self.counters.in_flight -= 1

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
            line = self._lines[limits.endpoint] = Admission(limits.max_in_flight)
        return line


class Ask:
    """What a strategy asks its teachers through, while it works on one record.

    `await ask(request)` gives the typed value; `ask.reply` what stood around it as well; `ask.many` several draws.
    """

    __slots__ = ("__dict__", "_board", "_seed", "_teachers", "dropped", "sources")

    def __init__(self, board: Switchboard, teachers: Mapping[str, Teacher], seed: str) -> None:
        self._board = board
        self._teachers = teachers
        self._seed = seed
        self.sources: set[int] = set()
        """Provenance numbers of the calls made for this record."""
        self.dropped: Counter[str] = Counter()
        """Draws that were lost while others of the same request succeeded, by reason."""

    @cached_property
    def rng(self) -> random.Random:
        """A generator seeded by the record's id and the run's seed, so that a replay takes the same path."""
        return random.Random(self._seed)

    async def __call__(self, request: Request[T], role: str = "teacher") -> T:
        """Ask once and give the typed reply.

        Raises:
            RecordError: the reply stays unusable (unreadable, refused, truncated, empty), or the request failed.
        """
        return (await self.reply(request, role)).value

    async def reply(self, request: Request[T], role: str = "teacher") -> Reply[T]:
        """Ask once; the typed value with its text, reasoning and completion."""
        teacher, request = self._addressed(request, role)
        [completion] = await self._draw(teacher, request, (0,))
        try:
            return parse(completion, request)
        except (Truncated, ParseError):  # to be asked again, perhaps; what is read at once needs no coroutine
            return await self._read(teacher, request, completion, 0)

    async def many(self, request: Request[T], n: int, role: str = "teacher") -> list[Reply[T]]:
        """Draw `n` replies; those that stay unusable are dropped and counted.

        Raises:
            RecordError: none of them is usable (the first one's error).
            ConfigError: `n` is less than 1.
        """
        if n < 1:
            raise ConfigError(f"ask.many(..., n={n}): at least one draw is needed")
        teacher, request = self._addressed(request, role)
        completions = await self._draw(teacher, request, range(n))
        read = [self._read(teacher, request, completion, index) for index, completion in enumerate(completions)]
        replies: list[Reply[T]] = []
        failures: list[RecordError] = []
        for outcome in await asyncio.gather(*read, return_exceptions=True):
            if isinstance(outcome, RecordError):
                failures.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                replies.append(outcome)
        if not replies:
            raise failures[0]
        self.dropped.update(failure.reason for failure in failures)
        return replies

    def _addressed(self, request: Request[T], role: str) -> tuple[Teacher, Request[T]]:
        """The role's teacher, and the request as that teacher will see it."""
        teacher = self._teachers.get(role)
        if teacher is None:
            known = ", ".join(sorted(self._teachers)) or "none"
            raise UnknownTeacher(
                f"no teacher plays the role {role!r}; roles given: {known}. Pass Run(..., {role}=...)."
            )
        defaults = teacher.sampling
        if defaults is not _NO_DEFAULTS and defaults != _NO_DEFAULTS:
            request = replace(request, sampling=request.sampling.over(defaults))
        if request.reply is not str and not teacher.native_schema:
            request = with_schema(request)
        return teacher, request

    async def _draw(self, teacher: Teacher, request: Request[T], indices: Sequence[int]) -> list[Completion]:
        self.sources.add(self._board.journal.source(teacher.identity, request))
        return await self._board.draw(teacher, request, indices)

    async def _read(self, teacher: Teacher, request: Request[T], completion: Completion, index: int) -> Reply[T]:
        """Parse; extend a cut reply once where the policy says so; send an invalid one back with the error.

        What is asked for again keeps its sample index, so that several draws stay several.
        """
        extended = False
        repairs = request.policy.repairs
        while True:
            try:
                return parse(completion, request)
            except Truncated:
                limit = request.sampling.max_tokens
                if request.policy.truncated != "extend" or extended or not limit:
                    raise
                extended = True
                request = replace(request, sampling=replace(request.sampling, max_tokens=2 * limit))
            except ParseError as error:
                if repairs <= 0:
                    raise
                repairs -= 1
                self._board.counters.repairs += 1
                request = repair_turn(request, completion.text, error)
            [completion] = await self._draw(teacher, request, (index,))


_NO_DEFAULTS = Sampling()


In = TypeVar("In", bound=Record, contravariant=True)
Out = TypeVar("Out", bound=Record, covariant=True)


class Strategy(Protocol[In, Out]):
    """One record in, any number of records out, with a teacher to ask on the way.

    A bare `async def` function with this signature is a strategy; the built-in ones are frozen dataclasses. One with a
    method `check(record)` is asked to check itself against the first record before anything is paid for.
    """

    async def __call__(self, record: In, ask: Ask, /) -> Sequence[Out]:
        """Work on one record; raise a `RecordError` to reject it with a reason."""
        ...
