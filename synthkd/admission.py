"""How many calls may be on their way to one endpoint: the only place that makes a caller wait for it.

Four things hold a call back: the limit, which finds the endpoint's capacity by itself; pacing, where the user gave
calls or tokens per minute; the quota that the endpoint says is left (`x-ratelimit-*`); and silence, where it asked for
that (`retry-after`). Invariant: whoever waits is woken and never looks; while an endpoint has asked for silence nothing
goes to it; a call that waits for its next try holds no place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import replace
from math import inf

from synthkd.capacity import Capacity
from synthkd.request import Completion, Limits, Quota

_FIRST_GUESS = 512
"""Tokens that a call is expected to take before any has come back."""
_NEWS = 0.05
"""Weight of one completion in the mean of what they take."""


class Admission:
    """The line in front of one endpoint, shared by every role and stage that uses it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        cap = limits.max_in_flight
        self.capacity = Capacity(cap) if limits.adaptive else Capacity(cap, start=cap)
        self.in_flight = 0
        self._requests = _Bucket(limits.rpm)
        self._tokens = _Bucket(limits.tpm)
        self._calls_left, self._tokens_left = _Left(), _Left()
        self._typical = float(_FIRST_GUESS)
        self._lanes: dict[Hashable, deque[tuple[asyncio.Future[None], int]]] = {}
        self._silent_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return sum(not place.done() for lane in self._lanes.values() for place, _ in lane)

    @property
    def quiet_until(self) -> float:
        """The time (`time.monotonic`) before which nothing goes, by the endpoint's own word; in the past if it may."""
        return max(self._silent_until, self._calls_left.free_at(), self._tokens_left.free_at())

    def narrow(self, limits: Limits) -> None:
        """Another teacher uses the endpoint too: of two limits the stricter one holds."""
        mine = self.limits
        rpm, tpm = _stricter(mine.rpm, limits.rpm), _stricter(mine.tpm, limits.tpm)
        most = min(mine.max_in_flight, limits.max_in_flight)
        if (most, rpm, tpm) == (mine.max_in_flight, mine.rpm, mine.tpm):
            return
        self.limits = replace(mine, max_in_flight=most, rpm=rpm, tpm=tpm)
        self.capacity.cap, self.capacity.limit = most, min(self.capacity.limit, most)
        self._requests.become(rpm)
        self._tokens.become(tpm)

    def expected(self, n: int) -> int:
        """How many tokens a call for `n` completions will probably take; 0 where nobody counts them."""
        return int(n * self._typical) if self.limits.tpm or self._tokens_left.known else 0

    async def enter(self, lane: Hashable, tokens: int = 0) -> float:
        """Wait for a place, and give the time at which it was had; lanes take turns.

        Args:
            lane: whose call it is: of those who wait, one of each lane goes before another of the same.
            tokens: how many the call will probably take, for pacing.
        """
        loop = asyncio.get_running_loop()
        if not self._lanes and self._closed_until(now := loop.time()) is None:
            self._admit(tokens)
            return now
        place = loop.create_future()
        self._lanes.setdefault(lane, deque()).append((place, tokens))
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted and cancelled at once: give the place on
                self._requests.take(-1)
                self._tokens.take(-tokens)
                self.leave()
            raise
        return loop.time()

    def answered(self, entered: float) -> None:
        """The call that entered then was answered; to be said before it leaves."""
        if self.limits.adaptive:
            now = asyncio.get_running_loop().time()
            self.capacity.answered(now - entered, self.in_flight, now)

    def refused(self, entered: float, silence: float | None) -> None:
        """The call that entered then was refused, failed or got no answer in time; to be said before it leaves.

        Args:
            entered: what `enter` gave.
            silence: for how many seconds the endpoint asked to be left alone, if it did.
        """
        now = asyncio.get_running_loop().time()
        if self.limits.adaptive:
            self.capacity.refused(now - entered, self.in_flight, now, silence or 0.0)
        if silence:
            self._silent_until = max(self._silent_until, now + silence)

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self._wake()

    def took(self, expected: int, completions: Sequence[Completion], quota: Quota | None = None) -> None:
        """Correct pacing and quota by what a call took, and by what the endpoint says is left."""
        if not expected and quota is None:
            return
        tokens = sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in completions)
        if completions:
            self._typical += _NEWS * (tokens / len(completions) - self._typical)
        self._tokens.take(tokens - expected)
        if (
            quota is not None
        ):  # it was counted when the endpoint answered, and knows nothing of what is on its way since
            others = max(self.in_flight - 1, 0)
            self._calls_left.heard(quota.requests, quota.requests_reset, others)
            self._tokens_left.heard(quota.tokens, quota.tokens_reset, others * self._typical)
        self._wake()

    def _closed_until(self, now: float) -> float | None:
        """None where a call may go now; else the time at which to look again, infinity where one must come back."""
        if self.in_flight >= self.capacity.limit:
            return inf
        until = max(self.quiet_until, self._requests.free_at(now), self._tokens.free_at(now))
        return until if until > now else None

    def _admit(self, tokens: int) -> None:
        self.in_flight += 1
        self._requests.take(1)
        self._tokens.take(tokens)
        self._calls_left.left -= 1
        self._tokens_left.left -= tokens

    def _wake(self) -> None:
        """Admit whoever may go, one lane after the other, and set the alarm where they must wait for a time."""
        if not self._lanes:
            return
        now = asyncio.get_running_loop().time()
        while self._lanes:
            until = self._closed_until(now)
            if until is not None:
                self._ring_at(until)
                return
            lane = next(iter(self._lanes))
            places = self._lanes.pop(lane)
            while places and places[0][0].done():  # cancelled while they waited
                places.popleft()
            if places:
                place, tokens = places.popleft()
                self._admit(tokens)
                place.set_result(None)
            if places:
                self._lanes[lane] = places  # behind the others: their turn

    def _ring_at(self, when: float) -> None:
        if when == inf or (self._alarm is not None and self._alarm.when() <= when + 0.001):
            return  # woken by a call that leaves, or looked again when the earlier bell rings
        if self._alarm is not None:
            self._alarm.cancel()
        # Some loops' timers are early by up to half a millisecond, and an early bell would find the door shut.
        self._alarm = asyncio.get_running_loop().call_at(when + 0.001, self._rung)

    def _rung(self) -> None:
        self._alarm = None
        self._wake()


class _Bucket:
    """A number per minute, spread evenly, with a burst of one second's worth."""

    def __init__(self, per_minute: int | None) -> None:
        self._seen: float | None = None
        self.become(per_minute)

    def become(self, per_minute: int | None) -> None:
        """Another number per minute, from now on."""
        self._rate = per_minute / 60 if per_minute else 0.0
        """Per second; 0 is no bound."""
        self._level = self._burst = max(1.0, self._rate)

    def free_at(self, now: float) -> float:
        """The time from which on something may be taken."""
        if not self._rate:
            return 0.0
        if self._seen is not None:
            self._level = min(self._burst, self._level + (now - self._seen) * self._rate)
        self._seen = now
        return now if self._level > 0 else now + (1e-6 - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Take so much; the level may go below zero, and then the next one waits longer."""
        if self._rate:
            self._level -= amount


class _Left:
    """What is left of one of the endpoint's own limits, by its word, until it is renewed."""

    def __init__(self) -> None:
        self.known = False
        self.left = inf
        self._until = 0.0

    def heard(self, left: int | None, until: float, others: float) -> None:
        if left is not None:
            self.known, self.left, self._until = True, left - others, until

    def free_at(self) -> float:
        return self._until if self.left <= 0 else 0.0


def _stricter(one: int | None, other: int | None) -> int | None:
    return min(one or other or 0, other or one or 0) or None
