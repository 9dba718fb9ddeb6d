"""Waiting for programs: the only place that decides how many run at a time, and what an interrupt does to them.

Invariant: whoever stops waiting, by Ctrl-C or because a coroutine is cancelled, has the program killed within a tenth
of a second. Results come in the order of what they are for, and no more is read ahead than runs.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from functools import partial
from threading import Event, Lock
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")

_PATIENCE = 2.0
_lock = Lock()
_threads: tuple[int, ThreadPoolExecutor] | None = None
_stop: ContextVar[Event | None] = ContextVar("stop", default=None)


class Stopped(Exception):
    """Whoever waited for the program does not any more."""


def stopping() -> Event:
    """What is set when nobody waits any more for the work of this thread."""
    return _stop.get() or Event()


def places() -> int:
    """How many programs run at a time: as many as this process may use cores, and at least two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, cores)


async def aside(work: Callable[..., T], /, *arguments: Any, **named: Any) -> T:
    """Run a verifier beside the event loop: `await aside(passes, program, tests)`, in a strategy of your own.

    Only so many run at a time, others wait for a place. A coroutine that is cancelled has its program killed.
    """
    stop = Event()
    future = _submit(partial(work, *arguments, **named), stop)
    try:
        return await asyncio.wrap_future(future)
    except BaseException:
        stop.set()
        raise


def in_order(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Do work for each item, side by side, and give the results in the items' order."""
    ahead: deque[tuple[Future[T], Event]] = deque()
    coming = iter(items)
    try:
        while True:
            while len(ahead) < places():
                try:
                    item = next(coming)
                except StopIteration:
                    break
                stop = Event()
                ahead.append((_submit(partial(work, item), stop), stop))
            if not ahead:
                return
            yield ahead[0][0].result()
            ahead.popleft()
    finally:
        _give_up(ahead)


def _submit(work: Callable[[], T], stop: Event) -> Future[T]:
    global _threads
    context = copy_context()
    context.run(_stop.set, stop)
    with _lock:
        if _threads is None or _threads[0] != os.getpid():  # threads do not come along into a forked process
            _threads = (os.getpid(), ThreadPoolExecutor(places(), thread_name_prefix="synthkd-sandbox"))
        return _threads[1].submit(context.run, work)


def _give_up(begun: Iterable[tuple[Future[Any], Event]]) -> None:
    running = []
    for future, stop in begun:
        stop.set()
        if not future.cancel():
            running.append(future)
    wait(running, timeout=_PATIENCE)
