"""The line: lanes take turns, silence and pacing are kept, and no place is lost, whoever is cancelled whenever."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.admission import Admission
from synthkd.loop import Loop
from synthkd.request import Completion, Limits, Quota, Usage

Work = Callable[[], Coroutine[Any, Any, Any]]


def line_for(most: int = 8, **limits: Any) -> Admission:
    return Admission(Limits("here", max_in_flight=most, **limits))


async def passes(line: Admission, lane: str = "teacher", tokens: int = 0, seconds: float = 0.0) -> float:
    entered = await line.enter(lane, tokens)
    try:
        await asyncio.sleep(seconds)
    finally:
        line.leave()
    return entered


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 25), st.integers(0, 2**32))
def test_the_limit_holds_and_every_place_comes_back_whoever_is_cancelled_whenever(
    most: int, callers: int, seed: int
) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        line = line_for(most)
        inside = highest = 0

        async def caller(number: int) -> None:
            nonlocal inside, highest
            await line.enter("abc"[number % 3])
            inside += 1
            highest = max(highest, inside)
            try:
                await turns(rng.randrange(4))
            finally:
                inside -= 1
                line.leave()

        tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
        doomed = rng.sample(tasks, rng.randrange(callers + 1))
        for task in doomed:
            await turns(rng.randrange(3))
            task.cancel()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert highest <= most
        assert all(result is None for task, result in zip(tasks, results, strict=True) if task not in doomed)
        assert line.in_flight == 0
        assert line.waiting == 0
        async with asyncio.timeout(10):  # and all places can be taken again
            for _ in range(most):
                await line.enter("a")
        assert line.in_flight == most

    asyncio.run(main())


def test_one_lane_is_served_in_the_order_in_which_its_callers_came() -> None:
    async def main() -> list[int]:
        line, order = line_for(2), []

        async def caller(number: int) -> None:
            await line.enter("teacher")
            order.append(number)
            await turns()
            line.leave()

        await asyncio.gather(*(caller(number) for number in range(12)))
        return order

    assert asyncio.run(main()) == list(range(12))


def test_lanes_take_turns_so_that_a_long_one_does_not_starve_a_short_one() -> None:
    async def main() -> list[str]:
        line, order = line_for(1), []

        async def caller(lane: str) -> None:
            await line.enter(lane)
            order.append(lane)
            await turns(2)
            line.leave()

        lanes = ["teacher"] * 20 + ["judge"] * 3 + ["student"] * 2
        await asyncio.gather(*(caller(lane) for lane in lanes))
        return order

    order = asyncio.run(main())
    assert len(order) == 25
    assert [order[:9].count(lane) for lane in ("teacher", "judge", "student")] == [4, 3, 2]


def test_a_caller_that_was_admitted_and_cancelled_at_once_gives_its_place_on() -> None:
    async def main() -> int:
        line = line_for(1)
        await line.enter("teacher")
        first, second = (asyncio.create_task(passes(line)) for _ in range(2))
        await turns()
        line.leave()  # admits the first, which has not run yet
        first.cancel()
        await asyncio.wait_for(second, 5)
        return line.in_flight

    assert asyncio.run(main()) == 0


def test_those_who_left_the_line_are_not_counted_and_do_not_hold_up_the_others() -> None:
    async def main() -> None:
        line = line_for(1)
        await line.enter("teacher")
        gone = [asyncio.create_task(passes(line, "judge")) for _ in range(5)]
        stays = asyncio.create_task(passes(line, "teacher"))
        await turns()
        assert line.waiting == 6
        for task in gone:
            task.cancel()
        await turns()
        assert line.waiting == 1
        line.leave()
        await asyncio.wait_for(stays, 5)

    asyncio.run(main())


def test_while_an_endpoint_is_silent_nobody_goes_and_afterwards_everybody_does() -> None:
    async def main() -> tuple[float, list[float]]:
        line = line_for(4)
        began = await line.enter("teacher")
        line.refused(began, 0.08)
        line.leave()
        async with asyncio.timeout(5):
            return began, await asyncio.gather(*(passes(line) for _ in range(10)))

    began, entered = asyncio.run(main())
    assert min(entered) - began >= 0.08


@pytest.fixture(params=["asyncio", "the run's own"])
def on_loop(request: pytest.FixtureRequest) -> Callable[[Work], Any]:
    if request.param == "asyncio":
        return lambda work: asyncio.run(work())

    def run(work: Work) -> Any:
        loop = Loop()
        try:
            return loop.run(work)
        finally:
            loop.close()

    return run


def test_silence_of_any_length_ends_also_on_a_loop_whose_timers_are_early(on_loop: Callable[[Work], Any]) -> None:
    async def main() -> None:
        lines = [line_for(1) for _ in range(40)]
        for number, line in enumerate(lines):
            line.refused(await line.enter("teacher"), 0.01 + 0.00013 * number)
            line.leave()
        async with asyncio.timeout(5):
            await asyncio.gather(*(passes(line) for line in lines))
        assert [(line.in_flight, line.waiting) for line in lines] == [(0, 0)] * 40

    on_loop(main)


def test_a_longer_silence_goes_before_a_shorter_one_whichever_was_asked_for_first() -> None:
    async def main(silences: tuple[float, ...]) -> float:
        line = line_for(8)
        began = await line.enter("teacher")
        waits = asyncio.create_task(passes(line)) if silences[0] < 0.05 else None
        for seconds in silences:
            line.refused(began, seconds)
        line.leave()
        entered = await asyncio.wait_for(passes(line), 5)
        if waits:
            await waits
        return entered - began

    for silences in ((0.01, 0.08, 0.02), (0.08, 0.01), (0.01, 0.08)):
        assert asyncio.run(main(silences)) >= 0.08


def test_a_call_that_ends_during_silence_lets_nobody_in() -> None:
    async def main() -> float:
        line = line_for(2)
        first, began = await line.enter("teacher"), await line.enter("teacher")
        line.refused(first, 0.08)
        line.leave()
        waits = asyncio.create_task(passes(line))
        await asyncio.sleep(0.01)
        line.answered(began)
        line.leave()
        return await asyncio.wait_for(waits, 5) - began

    assert asyncio.run(main()) >= 0.08


def test_calls_per_minute_are_spread_evenly_after_a_burst_of_one_second() -> None:
    async def main() -> list[float]:
        line = line_for(1000, rpm=6000)
        tasks = [asyncio.create_task(passes(line)) for _ in range(130)]
        await turns()
        assert 20 <= line.waiting <= 30  # a busy machine may have earned some of them their turn already
        async with asyncio.timeout(5):
            return sorted(await asyncio.gather(*tasks))

    entered = asyncio.run(main())
    assert entered[-1] - entered[0] >= 0.29


def test_tokens_per_minute_hold_back_whoever_comes_after_and_are_corrected_by_what_was_spent() -> None:
    async def main(estimated: int, actual: int) -> float:
        line = line_for(1000, tpm=60_000)
        first = await line.enter("teacher", estimated)
        line.took(estimated, [Completion("", usage=Usage(actual - 5, 5))])
        line.leave()
        return await asyncio.wait_for(passes(line, tokens=10), 10) - first

    assert asyncio.run(main(1200, 1200)) >= 0.19
    assert asyncio.run(main(1200, 1300)) >= 0.29
    assert asyncio.run(main(5000, 20)) < 2


def test_those_who_wait_together_do_not_take_the_same_tokens_twice() -> None:
    async def main() -> int:
        line, left = line_for(1000, tpm=60_000), []
        await line.enter("teacher", 1300)

        async def caller() -> None:
            await line.enter("teacher", 6000)
            left.append(line.waiting)

        tasks = [asyncio.create_task(caller()) for _ in range(4)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return left[0]

    assert asyncio.run(main()) == 3


def test_a_cancelled_call_gives_its_tokens_and_its_turn_back() -> None:
    async def main() -> float:
        line = line_for(1, rpm=120, tpm=6000)  # two a second
        await line.enter("teacher", 90)
        task = asyncio.create_task(passes(line, tokens=500))
        await turns()
        line.leave()  # admits the task, which has not run yet
        task.cancel()
        return await asyncio.wait_for(line.enter("teacher"), 5)

    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        return await main() - began

    assert asyncio.run(timed()) < 0.4


def test_whoever_waits_is_woken_and_never_looks() -> None:
    async def main() -> int:
        line, looks = line_for(1), 0
        real = line._closed_until

        def counted(now: float) -> float | None:
            nonlocal looks
            looks += 1
            return real(now)

        line._closed_until = counted  # type: ignore[method-assign]
        await line.enter("teacher")
        waiting = [asyncio.create_task(passes(line)) for _ in range(50)]
        await turns()
        looks = 0
        await asyncio.sleep(0.05)
        idle = looks
        line.leave()
        await asyncio.gather(*waiting)
        assert looks < 4 * 50
        return idle

    assert asyncio.run(main()) == 0


def test_the_limit_adapts_to_what_comes_back_and_never_passes_the_users_cap() -> None:
    async def main() -> tuple[int, int]:
        line, refused = line_for(100), 0

        async def caller() -> None:
            nonlocal refused
            entered = await line.enter("teacher")
            fine = line.in_flight <= 20
            await asyncio.sleep(0.002 if fine else 0)
            if fine:
                line.answered(entered)
            else:
                refused += 1
                line.refused(entered, None)
            line.leave()

        await asyncio.gather(*(caller() for _ in range(3000)))
        return line.capacity.limit, refused

    limit, refused = asyncio.run(main())
    assert limit <= 30
    assert refused < 400


def test_of_two_teachers_at_one_endpoint_the_stricter_limits_hold() -> None:
    async def main() -> tuple[Limits, int]:
        line = line_for(50, rpm=600, adaptive=False)
        line.narrow(Limits("here", max_in_flight=3, rpm=6000, tpm=90))
        line.narrow(Limits("here"))
        for _ in range(3):
            await line.enter("a")
        task = asyncio.create_task(line.enter("a"))
        await turns()
        assert not task.done()
        task.cancel()
        return line.limits, line.capacity.limit

    limits, most = asyncio.run(main())
    assert (limits.max_in_flight, limits.rpm, limits.tpm) == (3, 600, 90)
    assert most == 3


def test_a_limit_that_does_not_adapt_stays_whatever_comes_back() -> None:
    async def main() -> int:
        line = line_for(7, adaptive=False)
        for _ in range(200):
            line.refused(await line.enter("a"), None)
            line.leave()
        return line.capacity.limit

    assert asyncio.run(main()) == 7


def test_when_a_quota_is_used_up_nobody_goes_before_it_is_renewed() -> None:
    async def main() -> tuple[float, list[float]]:
        line = line_for(100)
        began = await line.enter("a")
        line.took(0, [Completion("")], Quota(3, began + 0.1, None, 0.0))
        line.leave()
        async with asyncio.timeout(5):
            return began, sorted(await asyncio.gather(*(passes(line) for _ in range(8))))

    began, entered = asyncio.run(main())
    assert [at - began < 0.1 for at in entered] == [True] * 3 + [False] * 5


def test_a_quota_of_tokens_holds_by_what_calls_have_taken_so_far() -> None:
    async def main() -> int:
        line = line_for(100)
        for _ in range(200):  # a call takes 100 tokens, as one learns
            await line.enter("a")
            line.took(1, [Completion("", usage=Usage(40, 60))])
            line.leave()
        began = await line.enter("a")
        line.took(100, [Completion("", usage=Usage(40, 60))], Quota(None, 0.0, 1000, began + 60))
        line.leave()
        tasks = [asyncio.create_task(passes(line, tokens=line.expected(1), seconds=9)) for _ in range(30)]
        await turns()
        admitted = line.in_flight
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return admitted

    assert 9 <= asyncio.run(main()) <= 11


def test_a_quota_counts_what_is_on_its_way_as_not_counted_yet() -> None:
    async def main() -> int:
        line = line_for(100)
        began = [await line.enter("a") for _ in range(5)]
        line.took(0, [Completion("")], Quota(6, began[0] + 60, None, 0.0))
        line.leave()
        tasks = [asyncio.create_task(passes(line, seconds=9)) for _ in range(10)]
        await turns()
        admitted = line.in_flight - 4
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return admitted

    assert asyncio.run(main()) == 2
