"""How many calls an endpoint takes at a time: the only place that guesses it, from what comes back.

Counts are kept per round: as many calls coming back as the limit allows, so about one round trip. Only rounds in which
the limit was reached say something about it; a few callers neither raise nor lower it.

- **Climbing.** Answers add to the limit: it doubles per round up to half of the last ceiling (the first time up to the
  cap), and beyond that grows by 1, 2, 4, ... and at most an eighth per round.
- **Refusals** (429, 5xx, timeouts) beyond the excused ones stop the growth, and each takes its place with it for good.
  What is left are the places of the calls that were accepted, so the limit lands on the ceiling, be it one of calls at
  a time or of calls per second. In one round trip it falls to a quarter at the least, and not below what was held
  without refusals before this climb; refusals of calls sent before the cut are old news.
- **Excuses.** Refusals that come at any load must not lower the limit. A tenth is excused at first. Where more go on
  after a cut, a limit a fifth lower is tried: what is refused there is excused from now on, and the limit comes back
  unless that was far less than before.
- **Latency.** By Little's law a limit yields limit / mean latency answers per second. Where latency grows while
  climbing, and a steady limit does not yield 5 % more than one two thirds of it, or where the yield has halved, lower
  limits are tried, down to the least that yields as much.
- **Holding.** Between climbs the limit rests for 2, 4, ... 32 rounds, longer after each that found nothing; and for
  twenty times the silence (Retry-After) that the last refusal cost, unless it is far below what was accepted then.

Invariant: 1 <= limit <= the user's cap. Nothing here waits, reads a clock, or does input or output.

Reference: Chiu and Jain 1989 (raise by adding, lower in proportion); RFC 5681 (slow start); Vegas 1995, BBR 2016 and
Netflix's concurrency-limits (judge by delivery and delay, not by loss alone).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_START = 128
_SHORTEST = 8  # calls that make a round at the least
_ENOUGH = 256  # calls over which latency is averaged before a limit goes down for it
_APART = 1.5  # limits so many times apart are compared; the higher one must yield
_GAIN = 1.05  # so many times as much
_EXCUSED = 0.1
_LOAD = 0.5  # a share of refusals that needs no test
_EVIDENCE = 6  # refusals that are worth a test
_MOST_CUT = 4
_LOWER = 0.8  # of the limit, where refusals are tested
_EASED = 0.67  # of the limit, where latency is; it must yield
_AS_MUCH = 0.93  # of what the higher one did
_SLOWER = 2.0
_LONGEST_HOLD = 32
_SILENCES = 20


@dataclass(slots=True)
class _Tally:
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


class Capacity:
    """The adaptive limit of one endpoint: `cap` is what the user allows at most, `start` what it begins with."""

    def __init__(self, cap: int, start: int = _START) -> None:
        self.cap = cap
        self.limit = max(1, min(start, cap))
        """How many calls may be on their way now."""
        # The judge decides about the limit, once so many rounds have settled it and so many calls are in the tally.
        self._judge: Callable[[float], None] = self._climbing
        self._settle = self._need = 0
        self._tally = _Tally()
        self._growth, self._fraction = 1.0, 0.0  # what an answer adds to the limit
        self._step = 1
        self._easy = cap  # up to here the limit doubles
        self._good = self._ceiling = 0  # held without a refusal before this climb; left over by the last refusals
        self._height = self._cut_from = 0  # where refusals began to lower the limit, and in this round
        self._best = (0, 0.0)  # a limit and its yield
        self._held = _Tally()
        self._hold, self._left, self._not_before = 2, 0, 0.0
        self._climbed_from, self._floor = self.limit, 1
        self._excused = self._most_excused = _EXCUSED
        self._tested = self._reached = self._braked = self._measured = self._suspected = False
        self._untried, self._share, self._yielded = self.limit, 0.0, 0.0
        self._news = 0.0  # calls sent before this, under a higher limit, do not count
        self._open()

    def answered(self, seconds: float, in_flight: int, now: float) -> None:
        """An answer came.

        Args:
            seconds: how long the call took.
            in_flight: calls on their way, this one included.
            now: the time on any clock that only goes forward.
        """
        if now - seconds < self._news:
            return
        mine = self._round
        mine.answers += 1
        mine.seconds += seconds
        self._reached = self._reached or in_flight >= self.limit
        if self._growth and self._reached and self.limit < self.cap:
            self._fraction += self._growth
            if self._fraction >= 1.0:
                self._fraction, self.limit = self._fraction - 1.0, self.limit + 1
        if mine.answers + mine.refusals >= self._length:
            self._turn(now)

    def refused(self, seconds: float, in_flight: int, now: float, silence: float = 0.0) -> None:
        """The endpoint refused a call, failed, or did not answer in time.

        Args:
            seconds, in_flight, now: as for an answer.
            silence: for how many seconds the endpoint asked to be left alone.
        """
        if now - seconds < self._news:
            return
        mine = self._round
        mine.refusals += 1
        self._reached = self._reached or in_flight >= self.limit
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
        """More refusals than are excused: no growth, and one more round trip in which each takes its place with it."""
        self._braked, self._growth, self._cut_from = True, 0.0, self.limit
        self._height = max(self._height, self.limit)
        self._floor = min(max(self.limit // _MOST_CUT, self._good, 1), self.limit)
        self._length = self._round.count + max(self.limit, _SHORTEST)

    def _open(self) -> None:
        """A new round begins."""
        self._round = _Tally()
        self._at = self.limit
        self._length = max(self.limit, _SHORTEST)
        self._reached = self._braked = False
        share = self._excused
        if self._judge == self._excusing:  # the round that settles a test takes what is too much; then it is counted
            share = 0.0 if self._settle > 0 else max(share, 2 * self._share)
        self._allowed = share * self._length + 3 * math.sqrt(share * self._length)

    def _turn(self, now: float) -> None:
        """A round is over."""
        mine = self._round
        share, before = mine.refusals / mine.count, self._cut_from if self._braked else self._at
        if self._braked:
            if self._judge != self._excusing:
                self._held.add(mine)
            if mine.answers:  # where nothing is answered at all, that is an outage and says nothing about a ceiling
                self._easy = max(self._cut_from // 2, 1)
            self._refuse(share, now)
        elif self._reached:
            if self._judge != self._excusing:
                self._held.add(mine)
                self._excused = min(self._most_excused, self._excused + 0.1 * (share - self._excused))
            self._left -= 1
            self._settle -= 1
            if self._settle < 0:
                self._tally.add(mine)
            if self._settle < 0 and self._tally.count >= self._need:
                self._judge(now)
        if self.limit < before:
            self._news = now
        self._open()

    def _refuse(self, share: float, now: float) -> None:
        """Refusals have lowered the limit in this round: test them, or hold what is left."""
        first, self._tested = not self._tested, True
        self._ceiling, self._suspected = self.limit, True
        if self._judge == self._excusing:
            self._settle -= 1
            if self._settle < 0:
                self._holds()
        elif share > _LOAD and not self._good:
            self._climbed_from = 0
            self._holds()
            self._settle = self._left = 0
            self._held = _Tally()
            if self.limit == self._floor:  # the cut ended there, not where calls were accepted
                self._not_before = now
        elif self._held.refusals >= _EVIDENCE and (first or self._judge == self._holding):
            self._test()
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
        self._step, self._height = 1, 0
        self._become(self._climbing, 0, 0)
        self._grow()

    def _grow(self) -> None:
        more = min(self.limit, self._easy - self.limit)
        if more <= 0:
            more, self._step = self._step, min(2 * self._step, max(self.limit // 8, 1))
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
        """Latency grew while climbing, but the calls were sent at a lower limit: look again at a steady one."""
        here = self._yield()
        if here < _GAIN * self._best[1]:
            self._ease(here)
        else:
            self._best = (self.limit, here)
            self._become(self._climbing, 0, 0)
            self._grow()

    def _holds(self) -> None:
        self._hold = 2 if self.limit > 1.1 * self._climbed_from else min(2 * self._hold, _LONGEST_HOLD)
        self._left, self._climbed_from, self._growth = self._hold, self.limit, 0.0
        self._measured = False
        if self._judge != self._holding:  # else the evidence grows, until it is tested
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
        if self._suspected and self._held.refusals >= max(_EVIDENCE, 1.25 * self._excused * self._held.count):
            self._test()
        elif self._left <= 0 and self.limit < self.cap and (now >= self._not_before or 2 * self.limit < self._ceiling):
            if not self._measured:
                self._best = (self.limit, here)
            self._good = 0 if self._held.refusals else self.limit
            self._climbs()

    def _test(self) -> None:
        """Are there as many refusals at a lower limit?"""
        self._untried, self._share, self._suspected = self.limit, self._held.refusals / self._held.count, False
        self._growth, self.limit = 0.0, max(1, int(self.limit * _LOWER))
        self._become(self._excusing, 1, math.ceil(_EVIDENCE / self._share))

    def _excusing(self, now: float) -> None:
        seen = self._tally
        self._excused = min(seen.refusals / seen.count, _LOAD)
        self._most_excused = 1.5 * self._excused
        if seen.refusals >= max(2, self._share * seen.count / 4):
            self.limit = min(max(self._untried, self._height), self.cap)
            self._easy, self._climbed_from, self._best = self.cap, self.limit, (0, 0.0)
            self._climbs()
        else:
            if self.limit >= int(self._untried * _LOWER):
                self.limit = self._untried
            self._holds()

    def _ease(self, enough: float) -> None:
        """Would fewer calls at a time yield as much?"""
        self._untried, self._yielded = self.limit, enough
        self.limit = max(1, int(self.limit * _EASED))
        self._become(self._easing, 2, _ENOUGH)

    def _easing(self, now: float) -> None:
        if self._yield() >= _AS_MUCH * self._yielded and self.limit > 1:
            self._ease(self._yielded)
        else:
            self.limit = self._easy = self._untried
            self._holds()
            self._best, self._measured = (self.limit, self._yielded), True
