"""How many calls may be on their way to one endpoint: the only place that makes a caller wait for it.

Invariant: whoever waits is woken and never looks; while an endpoint has asked for silence (Retry-After), nothing goes
to it; a call that waits for its next try holds no place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Admission:
    """The places of one endpoint, shared by every role and stage that uses it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._silent_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        if self._free():
            self.in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted and cancelled at once: give the place on
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def silence(self, seconds: float) -> None:
        """Let nothing through for so long: what the endpoint asked for with Retry-After."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if until > self._silent_until:
            self._silent_until = until
            if self._alarm:
                self._alarm.cancel()
            self._alarm = loop.call_at(until, self._speak)

    def _speak(self) -> None:
        self._silent_until = 0.0  # some loops' timers are early by up to half a millisecond, and this one rings once
        self._wake()

    def _free(self) -> bool:
        quiet = self._silent_until and self._silent_until > asyncio.get_running_loop().time()
        return self.in_flight < self.limit and not quiet

    def _leave(self) -> None:
        self.in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._free():
            place = self._waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(None)
