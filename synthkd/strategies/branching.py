"""Branches: the only place where a strategy that works through others gives them an ask of their own.

A branch is the ask it comes from with something changed: its requests, who plays a role, which draws it takes, its
chance. Invariants: what it draws and drops counts for the same record, and what runs side by side shares no generator,
so the order in which replies arrive changes nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar, cast

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.record import Record
from synthkd.request import Request, Teacher

Out = TypeVar("Out", bound=Record)
T = TypeVar("T")

Change = Callable[[Request[Any]], Request[Any]]


class Branch(Ask):
    """An ask within an ask.

    Args:
        ask: where it comes from.
        change: what becomes of each request before it is sent; what the outer ask changes comes after it.
        roles: who is asked in whose place: `{"teacher": "gpt"}` sends to `gpt` what is meant for the teacher.
        first: number of the first draw of each request, so that the same request is drawn anew.
        rng: its generator; by default it goes on with that of `ask`, which must then wait for it.

    Raises:
        UnknownTeacher: nobody plays one of the roles.
    """

    __slots__ = ("_change",)
    _change: Change | None

    def __init__(
        self,
        ask: Ask,
        *,
        change: Change | None = None,
        roles: Mapping[str, str] | None = None,
        first: int = 0,
        rng: Random | None = None,
    ) -> None:
        swapped = {role: ask._teacher(player) for role, player in (roles or {}).items()}
        super().__init__(ask._board, {**ask._teachers, **swapped}, ask._seed, ask._first + first)
        self.sources = ask.sources
        self.dropped = ask.dropped
        self._effects = ask._effects
        self.rng = rng or ask.rng
        outer = ask._change if isinstance(ask, Branch) else None
        self._change = change if outer is None else outer if change is None else _one_after(change, outer)

    def _addressed(self, request: Request[T], role: str) -> tuple[Teacher, Request[T]]:
        if self._change is not None:
            request = self._change(request)
        return super()._addressed(request, role)


def twin(rng: Random) -> Random:
    """A generator that goes on as this one would."""
    other = Random()
    other.setstate(rng.getstate())
    return other


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Do several things side by side that all must succeed: what each gave, in their order.

    Where one fails, the others end first: what they drop is counted at any speed of the teachers, what they pay for is
    journaled, and none of them goes on behind a record that is rejected.

    Raises:
        Exception: the first failure in their order; one that stops the run goes before one that rejects the record.
    """
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, RecordError)), failures[0])
    return cast("list[T]", outcomes)


async def survivors(
    ask: Ask, work: Iterable[tuple[str, Coroutine[Any, Any, Sequence[Out]]]]
) -> list[tuple[str, Sequence[Out]]]:
    """Do several things side by side: what each gave, in their order, under its name.

    Those that are rejected are counted in `ask.dropped`, by their name (where it is not empty) and reason.

    Raises:
        RecordError: all of them were rejected (the first one's error).
    """
    names, coroutines = zip(*work, strict=True)
    failures: list[tuple[str, RecordError]] = []
    given: list[tuple[str, Sequence[Out]]] = []
    outcomes = await asyncio.gather(*coroutines, return_exceptions=True)
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, RecordError):
            failures.append((name, outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            given.append((name, outcome or ()))
            if not outcome:
                failures.append((name, RecordError("the strategy gave nothing back", reason="no output")))
    if not any(outputs for _, outputs in given):
        raise failures[0][1]
    ask.dropped.update(f"{name} {error.reason}".strip() for name, error in failures)
    return given


def child(output: Out, parent: Record, **meta: Any) -> Out:
    """An output with its parent's id among its parents, and with more in its `meta`; the parent itself stays."""
    update: dict[str, Any] = {"meta": {**output.meta, **meta}} if meta else {}
    if output is not parent and parent.id not in output.parents:
        update["parents"] = (parent.id, *output.parents)
    return output.model_copy(update=update) if update else output


async def called(
    ask: Ask,
    name: str,
    function: Callable[..., Any],
    given: Sequence[Any],
    known: Mapping[str, JsonValue],
    into: Callable[[Any], JsonValue],
) -> Any:
    """What a function of the user's gives. That of an async one is kept in the journal, and had only once.

    Args:
        name: what it is called in the strategy's arguments.
        given: what it is given.
        known: what its result depends on, so that the journal finds it again.
        into: makes the result a JSON value.

    Raises:
        ConfigError: it gave something to wait for, and is no async function.
    """

    async def act() -> JsonValue:
        return into(await function(*given))

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return await ask.effect(name, known, act)
    found = function(*given)
    if inspect.iscoroutine(found):
        found.close()
        raise ConfigError(f"{name}={function!r} gave a coroutine and is no async function: write it as `async def`")
    return into(found)


def check(strategy: Any, record: Record) -> None:
    """Let a strategy check itself against the first record, where it can."""
    own = getattr(strategy, "check", None)
    if own is not None:
        own(record)


def _one_after(first: Change, second: Change) -> Change:
    return lambda request: second(first(request))
