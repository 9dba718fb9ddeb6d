"""Capacity: it finds what an endpoint takes, from below and from above, in a simulation without a clock."""

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from synthkd.capacity import Capacity

WIRE, CPU = 0.0003, 0.00005
"""Seconds on the wire each way, and seconds that the caller's side needs for one answer."""


class Fixed:
    """A limit that somebody was told."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def answered(self, seconds: float, in_flight: int, now: float) -> None: ...

    def refused(self, seconds: float, in_flight: int, now: float, silence: float = 0.0) -> None: ...


@dataclass
class Server:
    """An endpoint with a ceiling of calls at a time or per second, a knee, and faults that come at any load."""

    latency: float = 0.05
    sigma: float = 0.0
    most: int | None = None
    """Calls it takes at a time; more are refused."""
    rate: float | None = None
    """Calls it takes per second, with a burst of one second's worth."""
    knee: float | None = None
    """Calls at a time at which its latency has doubled; it then yields half of what it ever will."""
    slots: int | None = None
    """Calls it works on at a time; more queue."""
    patience: float = math.inf
    """Seconds after which a caller gives up."""
    refusals: float = 0.0
    errors: float = 0.0
    """Shares of calls that are refused at once, and that fail after their latency, at any load."""
    silence: float = 0.0
    refusing: float = 0.005
    seed: int = 1
    changes: dict[float, dict[str, Any]] = field(default_factory=dict)
    """What becomes of it, and when."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.load = 0
        self.tokens, self.seen = self.rate or 0.0, 0.0
        self.free = [0.0] * (self.slots or 0)

    def arrive(self, now: float) -> tuple[bool, float, float]:
        """Whether the call succeeds, after how long, and what silence is asked for."""
        for when in [when for when in self.changes if when <= now]:
            vars(self).update(self.changes.pop(when))
        self.load += 1
        seconds = self.latency * math.exp(self.rng.gauss(0, self.sigma))
        if self.most and self.load > self.most:
            return False, self.refusing, self.silence
        if self.rate:
            self.tokens, self.seen = min(self.rate, self.tokens + (now - self.seen) * self.rate), now
            if self.tokens < 1:
                return False, self.refusing, self.silence
            self.tokens -= 1
        luck = self.rng.random()
        if luck < self.refusals:
            return False, self.refusing, self.silence
        if self.knee:
            seconds *= 1 + self.load / self.knee
        if self.free:
            begin = max(now, heapq.heappop(self.free))
            heapq.heappush(self.free, begin + seconds)
            seconds += begin - now
        if seconds > self.patience:
            return False, self.patience, 0.0
        return luck >= self.refusals + self.errors, seconds, 0.0


@dataclass
class Outcome:
    """What a simulation gave."""

    seconds: float
    answers: int
    refused: int
    limits: list[tuple[float, int]]

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    def limit_at(self, when: float) -> int:
        return next(limit for now, limit in self.limits if now >= when)


def simulate(capacity: Any, server: Server, answers: int = 5000, callers: int = 1024) -> Outcome:
    """Callers that always have something to ask, one line, one endpoint; refused calls come back after a pause."""
    rng, now, number, in_flight, silent, busy = random.Random(0), 0.0, 0, 0, 0.0, 0.0
    line = deque([0] * callers)
    """Tries made so far, of those who wait."""
    events: list[tuple[Any, ...]] = []
    found = Outcome(0.0, 0, 0, [])

    def later(when: float, *what: Any) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, *what))

    while found.answers < answers:
        while line and in_flight < capacity.limit and now >= silent:
            in_flight += 1
            later(now + WIRE, "arrives", line.popleft(), now)
        now, _, what, *of = heapq.heappop(events)
        if what == "arrives":
            fine, seconds, silence = server.arrive(now)
            later(now + seconds, "leaves", *of, fine, silence)
        elif what == "leaves":
            server.load -= 1
            busy = max(busy + CPU, now + WIRE)
            later(busy, "back", *of)
        elif what == "back":
            tries, sent, fine, silence = of
            if fine:
                found.answers += 1
                capacity.answered(now - sent, in_flight, now)
                line.append(0)
            else:
                found.refused += 1
                capacity.refused(now - sent, in_flight, now, silence)
                if silence:
                    silent = max(silent, now + silence)
                    later(silent, "silence ends")
                pause = silence + rng.uniform(0, 0.1) if silence else rng.uniform(0, min(60, 0.5 * 2**tries))
                later(now + pause, "again", tries + 1)
            in_flight -= 1
            found.limits.append((now, capacity.limit))
        elif what == "again":
            line.append(of[0])
    found.seconds = now
    return found


def share_of_best(best: int, cap: int, answers: int = 5000, **server: Any) -> tuple[float, Outcome]:
    """What it gives as a share of what the best fixed limit does, the search included."""
    told = simulate(Fixed(best), Server(**server), answers)
    found = simulate(Capacity(cap), Server(**server), answers)
    return found.rate / told.rate, found


@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize("latency", [0.05, 0.2])
@pytest.mark.parametrize("most", [8, 64, 128])
def test_a_ceiling_of_calls_at_a_time_is_found_from_below_and_from_above(
    most: int, latency: float, sigma: float
) -> None:
    share, found = share_of_best(most, 1024, most=most, latency=latency, sigma=sigma)
    assert share > 0.9
    assert found.refused < 0.05 * found.answers
    assert 0.85 * most <= found.limits[-1][1] <= 1.1 * most + 1


def test_a_ceiling_that_asks_for_silence_costs_one_and_is_then_left_alone() -> None:
    share, found = share_of_best(128, 1024, 12_000, most=128, latency=0.2, sigma=0.5, silence=1.0)
    assert share > 0.9
    assert found.refused < 20
    assert found.limits[-1][1] <= 128


def test_a_ceiling_of_calls_per_second_is_found() -> None:
    share, found = share_of_best(50, 512, rate=1000, latency=0.05, sigma=0.3)
    assert share > 0.95
    assert found.refused < 0.16 * found.answers
    assert found.limits[-1][1] < 80


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_refusals_that_come_at_any_load_do_not_keep_it_from_the_cap(sigma: float) -> None:
    share, found = share_of_best(512, 512, 12_000, refusals=0.05, errors=0.02, latency=0.2, sigma=sigma)
    assert found.limit_at(found.seconds / 3) == 512
    assert found.limits[-1][1] == 512
    assert share > 0.85


def test_refusals_at_any_load_that_ask_for_silence_do_not_keep_it_from_the_cap_either() -> None:
    for seed in range(5):
        found = simulate(Capacity(512), Server(refusals=0.05, silence=1.0, seed=seed), 8000)
        assert found.limits[-1][1] > 450


def test_a_ceiling_is_found_also_where_some_refusals_come_at_any_load() -> None:
    share, found = share_of_best(128, 512, 10_000, most=128, refusals=0.05, latency=0.2, sigma=0.5)
    assert share > 0.8
    assert found.refused < 0.09 * found.answers
    assert 100 < found.limits[-1][1] < 145


@pytest.mark.parametrize("share", [0.01, 0.05, 0.15])
def test_refusals_that_begin_later_and_come_at_any_load_do_not_wear_the_limit_down(share: float) -> None:
    found = simulate(Capacity(256), Server(latency=0.1, sigma=0.3, changes={2.0: {"refusals": share}}), 30_000)
    lowest = [limit for now, limit in found.limits if now > 6.0]
    assert sum(lowest) / len(lowest) > 0.9 * 256


@pytest.mark.parametrize(("cap", "rounds"), [(256, 4), (512, 6)])
def test_where_nothing_is_refused_and_latency_stays_it_reaches_the_cap_within_a_few_round_trips(
    cap: int, rounds: int
) -> None:
    found = simulate(Capacity(cap), Server(latency=0.2), 5000)
    assert found.limit_at(rounds * 0.2) == cap
    assert found.seconds < 5000 / cap * 0.2 + 0.6


@pytest.mark.parametrize("slots", [32, 128])
def test_where_more_calls_only_queue_it_stops_and_comes_back(slots: int) -> None:
    share, found = share_of_best(slots, 1024, 15_000, slots=slots, latency=0.05, sigma=0.3)
    later = [limit for now, limit in found.limits if now > found.seconds / 2]
    assert share > 0.9
    assert sum(later) / len(later) < 3 * slots


@pytest.mark.parametrize("knee", [16, 64])
def test_where_throughput_flattens_it_comes_within_a_tenth_of_all_there_is(knee: int) -> None:
    found = simulate(Capacity(512), Server(knee=knee, latency=0.05), 10_000)
    assert found.rate > 0.9 * simulate(Fixed(512), Server(knee=knee, latency=0.05), 10_000).rate


def test_a_ceiling_that_falls_is_followed_in_a_few_round_trips_and_one_that_rises_in_some_tens() -> None:
    server = Server(latency=0.2, sigma=0.5, most=128, changes={10.0: {"most": 32}, 20.0: {"most": 256}})
    found = simulate(Capacity(1024), server, 16_000)
    assert found.limit_at(9.9) > 115
    assert found.limit_at(10.8) < 40
    assert found.limit_at(19.9) > 26
    assert found.limit_at(20.0 + 70 * 0.2) > 230
    assert found.refused < 0.03 * found.answers


def test_an_outage_is_survived() -> None:
    server = Server(latency=0.1, changes={3.0: {"refusals": 1.0}, 5.0: {"refusals": 0.0}})
    found = simulate(Capacity(256), server, 20_000)
    assert found.limit_at(4.5) < 20
    assert found.limits[-1][1] > 200


@pytest.mark.parametrize("callers", [1, 5, 20, 60])
@pytest.mark.parametrize("faults", [0.0, 0.05])
def test_fewer_callers_than_the_limit_neither_raise_nor_lower_it(callers: int, faults: float) -> None:
    start = Capacity(512).limit
    assert callers < start
    found = simulate(Capacity(512), Server(refusals=faults, sigma=0.5), 2000, callers)
    assert {limit for _, limit in found.limits} == {start}


def test_timeouts_count_as_refusals() -> None:
    server = Server(latency=0.05, sigma=0.2, slots=32, patience=0.3)
    told = simulate(Fixed(64), Server(latency=0.05, sigma=0.2, slots=32, patience=0.3), 8000)
    found = simulate(Capacity(1024), server, 8000)
    assert found.rate > 0.85 * told.rate
    assert found.limits[-1][1] < 300


@pytest.mark.parametrize("cap", [1, 2, 7, 100])
def test_the_limit_stays_between_one_and_the_cap_whatever_comes_back(cap: int) -> None:
    rng, capacity, now = random.Random(cap), Capacity(cap), 0.0
    for _ in range(20_000):
        now += rng.random() * 0.01
        in_flight, seconds = rng.randrange(1, cap + 2), rng.expovariate(10)
        if rng.random() < 0.5 * (1 + math.sin(now / 5)):
            capacity.answered(seconds, in_flight, now)
        else:
            capacity.refused(seconds, in_flight, now, rng.choice([0.0, 0.0, 1.0]))
        assert 1 <= capacity.limit <= cap
