"""How many calls an endpoint takes at a time: the only place that guesses it, from what comes back.

Counts are kept per round, which is as many calls coming back as the limit allows, about one round trip. Only rounds in
which the limit was reached say something about it, so a few callers neither raise nor lower it.

- **Climbing.** Each answer adds to the limit, so that it doubles per round; near a ceiling that was met before, it
  grows by 1, 2, 4, ... up to an eighth per round instead.
- **Refusals** (429, 5xx, timeouts) beyond those that are excused: growth stops, and every refused call takes its place
  with it. The places left are those whose calls were accepted, so the limit lands on the ceiling, whether that is one
  of calls at a time or of calls per second. It never falls below a quarter, or below what was held without refusals
  before this climb, in one round trip; refusals of calls sent before such a round ended are old news and do not count.
- **Excuses.** A share of refusals that comes at any load must not lower the limit. At first a tenth is excused; where
  refusals go on although the limit was cut, it is lowered by a fifth for a moment: as many there means that they do not
  depend on load, so they are excused and the limit comes back; fewer means that they do, and nothing is excused.
- **Latency.** Little's law gives what a limit yields: limit / mean latency. A limit half as high again that yields
  less than 5 % more is taken back. Where the yield at the held limit falls to half, two thirds of the limit are tried,
  and kept if they yield as much.
- **Holding.** Between climbs the limit rests for 2, 4, ... 32 rounds, longer after each climb that found nothing; and
  where a refusal asked for silence (Retry-After), for twenty times as long as that, because the next one costs it again.

Invariant: 1 <= limit <= the user's cap. Nothing here waits, looks at a clock or does input or output.

Reference: Chiu and Jain 1989 (raise by adding, lower in proportion); TCP slow start and its threshold (RFC 5681);
Brakmo and Peterson 1995 (Vegas) and Cardwell et al. 2016 (BBR): judge by delivery and delay, not by loss alone;
Netflix's concurrency-limits (the same for request concurrency).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_START = 64
_SHORTEST = 8
"""Calls that make a round at the least."""
_ENOUGH = 256
"""Calls over which latencies are averaged before the limit goes down for them."""
_GAIN = 1.05
_APART = 1.5
"""A limit must be so many times another before their yields are compared, and yield `_GAIN` times as much."""
_EXCUSED = 0.1
_LOAD = 0.25
"""Share of refusals from which they are taken for load without any test."""
_EVIDENCE = 6
"""Refusals from which a share is worth testing."""
_MOST_CUT = 4
_LOWER = 0.8
_EASED = 0.67
_SLOWER = 2.0
_AS_MUCH = 0.85
_LONGEST_HOLD = 32
_SILENCES = 20


@dataclass(slots=True)
class _Tally:
    """What came back."""

    answers: int = 0
    refusals: int = 0
    seconds: float = 0.0
    """Sum of the answers' latencies."""

    def add(self, other: _Tally) -> None:
        self.answers += other.answers
        self.refusals += other.refusals
        self.seconds += other.seconds

    @property
    def count(self) -> int:
        return self.answers + self.refusals

    @property
    def share(self) -> float:
        return self.refusals / max(self.count, 1)


class Capacity:
    """The adaptive limit of one endpoint.

    Args:
        cap: what the user allows at most.
        start: the limit to begin with.
    """

    def __init__(self, cap: int, start: int = _START) -> None:
        self.cap = cap
        self.limit = max(1, min(start, cap))
        """How many calls may be on their way now."""
        self._judge: Callable[[float], None] = self._climbing
        """What becomes of the limit, once `_settle` rounds have passed and `_need` calls are in `_tally`."""
        self._settle = self._need = 0
        self._tally = _Tally()
        self._growth = 1.0
        """What an answer adds to the limit."""
        self._fraction = 0.0
        self._step = 1
        self._easy = cap
        """Up to here the limit doubles; half of the last ceiling."""
        self._good = 0
        """The limit that was held without a refusal before this climb, or 0."""
        self._height = self._cut_from = 0
        """The limit from which refusals have been lowering it."""
        self._best = (0, 0.0)
        """A limit and its yield, which higher ones must beat."""
        self._measured = False
        self._held = _Tally()
        self._hold = 2
        self._left = 0
        self._climbed_from = self.limit
        self._not_before = 0.0
        self._excused = self._most_excused = _EXCUSED
        self._tested = False
        self._untried, self._share, self._yielded = self.limit, 0.0, 0.0
        self._news = 0.0
        """Refusals of calls sent before this do not count."""
        self._open()

    def answered(self, seconds: float, in_flight: int, now: float) -> None:
        """An answer came.

        Args:
            seconds: how long the call took.
            in_flight: calls on their way, this one included.
            now: the time on any clock that only goes forward.
        """
        mine = self._round
        mine.answers += 1
        mine.seconds += seconds
        if in_flight >= self.limit:
            self._reached = True
        if self._growth and self._reached and self.limit < self.cap:
            self._fraction += self._growth
            if self._fraction >= 1.0:
                self._fraction -= 1.0
                self.limit += 1
        if mine.answers + mine.refusals >= self._length:
            self._turn(now)

    def refused(self, seconds: float, in_flight: int, now: float, silence: float = 0.0) -> None:
        """The endpoint refused a call, failed, or did not answer in time.

        Args:
            seconds: how long the call took.
            in_flight: calls on their way, this one included.
            now: the time on the clock that `answered` is given.
            silence: for how many seconds the endpoint asked to be left alone.
        """
        if now - seconds < self._news:
            return
        mine = self._round
        mine.refusals += 1
        if in_flight >= self.limit:
            self._reached = True
        if silence and not self._tested:  # it says what it means; nothing is excused before a test says otherwise
            self._excused = self._most_excused = self._allowed = 0.0
        if mine.refusals > self._allowed:
            if not self._braked:
                self._brake()
            self.limit = max(self.limit - 1, self._floor)
            self._not_before = max(self._not_before, now + _SILENCES * silence)
        if mine.count >= self._length:
            self._turn(now)

    def _brake(self) -> None:
        """More refusals than are excused: no growth, and one more round trip in which each takes its place along."""
        self._braked = True
        self._growth = 0.0
        self._height = max(self._height, self.limit)
        self._cut_from = self.limit
        self._floor = min(max(self.limit // _MOST_CUT, self._good, 1), self.limit)
        self._length = self._round.count + max(self.limit, _SHORTEST)

    def _open(self) -> None:
        """A new round begins."""
        self._round = _Tally()
        self._at = self.limit
        self._length = max(self.limit, _SHORTEST)
        self._reached = self._braked = False
        self._floor = 1
        share = max(self._excused, 2 * self._share) if self._judge == self._excusing else self._excused
        expected = share * self._length
        self._allowed = expected + 3 * math.sqrt(expected)

    def _turn(self, now: float) -> None:
        """A round is over."""
        mine = self._round
        if self._braked:
            self._news = now
            self._held.add(mine)
            if mine.answers:  # where nothing is answered at all, that is an outage and says nothing about a ceiling
                self._easy = max(self._cut_from // 2, 1)
            self._refuse(mine.share, now)
        elif self._reached:
            self._held.add(mine)
            if self._judge != self._excusing:
                self._excused = min(self._most_excused, self._excused + 0.1 * (mine.share - self._excused))
            self._left -= 1
            self._settle -= 1
            if self._settle < 0:
                self._tally.add(mine)
                if self._tally.count >= self._need:
                    self._judge(now)
        self._open()

    def _refuse(self, share: float, now: float) -> None:
        """Refusals have lowered the limit in this round: test them, or hold what is left."""
        first, self._tested = not self._tested, True
        if self._judge == self._excusing:
            self._holds()
        elif share > _LOAD and not self._good:
            self._climbed_from = 0
            self._holds()
            self._settle = self._left = 0
            self._not_before = now
        elif self._held.refusals >= _EVIDENCE and (first or self._judge == self._holding):
            self._test(self._held.share)
        else:
            self._holds()
        self._good = 0

    def _yield(self) -> float:
        """Answers per second that the limit gives, by Little's law; free of pauses between calls."""
        return self._at * self._tally.answers / max(self._tally.seconds, 1e-9)

    def _become(self, judge: Callable[[float], None], settle: int, need: int) -> None:
        self._judge, self._settle, self._need = judge, settle, need
        self._tally = _Tally()

    def _climbs(self) -> None:
        self._step = 1
        self._height = 0
        self._become(self._climbing, 0, 0)
        self._grow()

    def _grow(self) -> None:
        if self.limit < self._easy:
            more = min(self.limit, self._easy - self.limit)
        else:
            more = self._step
            self._step = min(2 * self._step, max(self.limit // 8, 1))
        self._growth = more / max(self.limit, _SHORTEST)

    def _climbing(self, now: float) -> None:
        here = self._yield()
        self._tally = _Tally()
        limit, best = self._best
        if self._at >= _APART * limit:
            if here < best * math.sqrt(self._at / max(limit, 1)):
                self._growth = 0.0
                self._become(self._looking_again, 2, _ENOUGH)
                return
            self._best = (self._at, here)
        if self._at >= self.cap:
            self._holds()
        else:
            self._grow()

    def _looking_again(self, now: float) -> None:
        """Latency grew while climbing, and what comes back then was sent at a lower limit: look again at a steady one."""
        here = self._yield()
        if here >= _GAIN * self._best[1]:
            self._best = (self.limit, here)
            self._become(self._climbing, 0, 0)
            self._grow()
        else:
            self.limit = self._easy = self._best[0]
            self._holds()

    def _holds(self) -> None:
        self._growth = 0.0
        self._hold = 2 if self.limit > 1.1 * self._climbed_from else min(2 * self._hold, _LONGEST_HOLD)
        self._climbed_from = self.limit
        self._left = self._hold
        self._measured = False
        self._held = _Tally()
        self._become(self._holding, 1, 0)

    def _holding(self, now: float) -> None:
        here = self._yield()
        if self._tally.count >= _ENOUGH:
            if not self._measured:
                self._best, self._measured = (self.limit, here), True
            elif here * _SLOWER < self._best[1]:
                self._ease(here)
                return
            self._best = (self.limit, self._best[1] + 0.2 * (here - self._best[1]))
            self._tally = _Tally()
        if self._held.refusals >= _EVIDENCE and self._easy < self.cap:
            self._test(self._held.share)
        elif self._left <= 0 and now >= self._not_before and self.limit < self.cap:
            if not self._measured:
                self._best = (self.limit, here)
            self._good = 0 if self._held.refusals else self.limit
            self._climbs()

    def _test(self, share: float) -> None:
        """Are there as many refusals at a lower limit?"""
        self._untried, self._share = self.limit, share
        self._growth = 0.0
        self.limit = max(1, int(self.limit * _LOWER))
        self._become(self._excusing, 1, math.ceil(_EVIDENCE / share))

    def _excusing(self, now: float) -> None:
        here = self._tally.share
        if self._tally.refusals >= max(2, self._share * self._tally.count / 3):
            self._excused = min(here, _LOAD)
            self._most_excused = 1.5 * self._excused
            self.limit = min(max(self._untried, self._height), self.cap)
            self._easy = self.cap
            self._best = (0, 0.0)
            self._climbed_from = self.limit
            self._held = _Tally()
            self._climbs()
        else:
            self._excused = self._most_excused = 0.0
            self.limit = self._untried
            self._holds()

    def _ease(self, here: float) -> None:
        """Would fewer calls at a time yield as much?"""
        self._untried, self._yielded = self.limit, here
        self.limit = max(1, int(self.limit * _EASED))
        self._become(self._easing, 3, _ENOUGH)

    def _easing(self, now: float) -> None:
        here = self._yield()
        if here >= _AS_MUCH * self._yielded and self.limit > 1:
            self._ease(here)
        else:
            self.limit = self._untried
            self._holds()
