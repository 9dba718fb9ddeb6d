"""The loop: synchronous code waits for asynchronous code, wherever it stands and however that ends."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from synthkd.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    opened = Loop()
    yield opened
    opened.close()


def test_work_gives_its_result_and_all_work_runs_on_one_loop_in_another_thread(loop: Loop) -> None:
    async def work() -> tuple[int, asyncio.AbstractEventLoop]:
        await asyncio.sleep(0)
        return threading.get_ident(), asyncio.get_running_loop()

    first, second = loop.run(work), loop.run(work)
    assert first == second
    assert first[0] != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("several", [ValueError("mine")])])
def test_a_failure_comes_out_as_it_is_with_its_traceback(loop: Loop, error: Exception) -> None:
    async def deep_inside() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        loop.run(deep_inside)
    assert caught.value is error
    assert any(entry.name == "deep_inside" for entry in caught.traceback)


def test_it_works_inside_a_running_event_loop_as_in_a_notebook(loop: Loop) -> None:
    async def work() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def notebook() -> str:
        return loop.run(work)

    assert asyncio.run(notebook()) == "done"


def test_waiting_for_oneself_is_an_error_and_no_deadlock(loop: Loop) -> None:
    async def inner() -> None: ...

    async def outer() -> None:
        loop.run(inner)

    with pytest.raises(RuntimeError, match="inside one of its own strategies"):
        loop.run(outer)


def test_closing_cancels_what_still_runs_and_ends_the_thread() -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    tasks: list[asyncio.Task[None]] = []

    async def leave_behind() -> None:
        tasks.append(asyncio.create_task(endless()))
        await asyncio.sleep(0)

    before = threading.active_count()
    loop = Loop()
    loop.run(leave_behind)
    began = time.monotonic()
    loop.close()
    assert time.monotonic() - began < 3
    assert ended == ["cancelled"]
    assert threading.active_count() == before


def test_several_threads_may_wait_at_the_same_time(loop: Loop) -> None:
    results: list[int] = []

    async def work() -> int:
        await asyncio.sleep(0.01)
        return 1

    threads = [threading.Thread(target=lambda: results.append(loop.run(work))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [1] * 8
