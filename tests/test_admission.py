"""Admission: no more calls fly than may, nobody who waits is forgotten, and silence is kept and ends."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.admission import Admission
from synthkd.loop import Loop

Work = Callable[[], Coroutine[Any, Any, Any]]


async def enter(line: Admission, seconds: float = 0.0) -> None:
    async with line:
        await asyncio.sleep(seconds)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 25), st.integers(0, 2**32))
def test_the_limit_holds_and_every_place_comes_back_whoever_is_cancelled_whenever(
    limit: int, callers: int, seed: int
) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        line = Admission(limit)
        inside = most = finished = 0

        async def caller() -> None:
            nonlocal inside, most, finished
            async with line:
                inside += 1
                most = max(most, inside)
                try:
                    await turns(rng.randrange(4))
                finally:
                    inside -= 1
            finished += 1

        tasks = [asyncio.create_task(caller()) for _ in range(callers)]
        doomed = rng.sample(tasks, rng.randrange(callers + 1))
        for task in doomed:
            await turns(rng.randrange(3))
            task.cancel()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= limit
        assert finished == sum(result is None for result in results)
        assert all(result is None for task, result in zip(tasks, results, strict=True) if task not in doomed)
        assert line.in_flight == 0
        async with asyncio.timeout(10):  # and all places can be taken again
            for _ in range(limit):
                await line.__aenter__()
        assert line.in_flight == limit

    asyncio.run(main())


def test_callers_are_admitted_in_the_order_in_which_they_came() -> None:
    async def main() -> list[int]:
        line, order = Admission(2), []

        async def caller(number: int) -> None:
            async with line:
                order.append(number)
                await turns()

        await asyncio.gather(*(caller(number) for number in range(12)))
        return order

    assert asyncio.run(main()) == list(range(12))


def test_a_caller_that_was_admitted_and_cancelled_at_once_gives_its_place_on() -> None:
    async def main() -> int:
        line = Admission(1)
        await line.__aenter__()
        first, second = (asyncio.create_task(enter(line)) for _ in range(2))
        await turns()
        await line.__aexit__(None, None, None)  # admits the first, which has not run yet
        first.cancel()
        await asyncio.wait_for(second, 5)
        return line.in_flight

    assert asyncio.run(main()) == 0


def test_while_an_endpoint_is_silent_nobody_goes_and_afterwards_everybody_does() -> None:
    async def main() -> list[float]:
        loop, line, entered = asyncio.get_running_loop(), Admission(4), []
        began = loop.time()

        async def caller() -> None:
            async with line:
                entered.append(loop.time() - began)

        line.silence(0.08)
        async with asyncio.timeout(5):
            await asyncio.gather(*(caller() for _ in range(10)))
        return entered

    entered = asyncio.run(main())
    assert len(entered) == 10
    assert min(entered) >= 0.075


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
    """uvloop rounds timers to milliseconds: its alarm rang before the silence was over, and never again."""

    async def main() -> None:
        lines = [Admission(1) for _ in range(40)]
        for number, line in enumerate(lines):
            line.silence(0.01 + 0.00013 * number)
        async with asyncio.timeout(5):
            await asyncio.gather(*(enter(line) for line in lines))

    on_loop(main)


def test_a_longer_silence_goes_before_a_shorter_one() -> None:
    async def main() -> float:
        loop, line = asyncio.get_running_loop(), Admission(1)
        began = loop.time()
        for seconds in (0.01, 0.08, 0.02):
            line.silence(seconds)
        await asyncio.wait_for(enter(line), 5)
        return loop.time() - began

    assert asyncio.run(main()) >= 0.075


def test_a_call_that_ends_during_silence_lets_nobody_in() -> None:
    async def main() -> float:
        loop, line = asyncio.get_running_loop(), Admission(1)
        began = loop.time()
        flying = asyncio.create_task(enter(line, 0.01))
        await turns()
        line.silence(0.08)
        await asyncio.wait_for(asyncio.gather(flying, enter(line)), 5)
        return loop.time() - began

    assert asyncio.run(main()) >= 0.075
