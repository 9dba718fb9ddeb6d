"""Scored: the strategy that writes what a scorer on this machine says of a record into its `meta`.

Invariant: what waits while the scorer is busy is given to it together, so that a model sees batches, and each record
gets the score of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.record import Record
from synthkd.strategies.scores import completions_of, with_entry

R = TypeVar("R", bound=Record)


def answered(record: Any) -> Any:
    """What a reward model judges: messages and completion, or a list of such pairs."""
    texts = completions_of(record, "Scored")
    return (record.messages, texts) if isinstance(texts, str) else [(record.messages, text) for text in texts]


@dataclass(frozen=True)
class Scored:
    """Each record with a score by a function, such as `scoring.Reward(model)`; asks no teacher.

    A score is remembered by the scorer's `repr` and what it was given, so a replay asks the model nothing.

    Args:
        scorer: from a list of things to as many numbers; it is called in a thread, one call at a time.
        name: the entry of `meta`.
        of: from a record to the thing to be scored, or to a list of them; then the entry is a list in their order. By
            default the messages and the completion, or those with each completion.
    """

    scorer: Callable[[list[Any]], Sequence[float]]
    name: str = "score"
    of: Callable[[Any], Any] = answered
    _line: _Line = field(default_factory=lambda: _Line(), init=False, repr=False, compare=False)

    def check(self, record: Record) -> None:
        """Refuse a record that has nothing to score."""
        self.of(record)

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        things = self.of(record)
        many = isinstance(things, list)

        async def act() -> JsonValue:
            found = await self._line.scored(self.scorer, things if many else [things])
            return list(found) if many else found[0]

        who = re.sub(r" at 0x[0-9a-f]+", "", repr(self.scorer))
        what = blake2b(repr(things).encode(errors="surrogatepass"), digest_size=16).hexdigest()
        value = await ask.effect("scored", {"scorer": who, "things": what}, act)
        return [with_entry(record, self.name, value)]


class _Line:
    """What waits for a scorer that is busy."""

    def __init__(self) -> None:
        self._waiting: list[tuple[list[Any], asyncio.Future[list[float]]]] = []
        self._work: asyncio.Task[None] | None = None

    async def scored(self, scorer: Callable[[list[Any]], Sequence[float]], things: list[Any]) -> list[float]:
        """The scores of some things, asked for together with those of others."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((things, future))
        if self._work is None:
            self._work = asyncio.create_task(self._serve(scorer))
        found: list[float] = await future
        return found

    async def _serve(self, scorer: Callable[[list[Any]], Sequence[float]]) -> None:
        await asyncio.sleep(0)  # the others of a burst
        try:
            while batch := [(things, future) for things, future in self._waiting if not future.done()]:
                self._waiting.clear()
                try:
                    whole = [thing for things, _ in batch for thing in things]
                    found = [float(one) for one in await asyncio.to_thread(scorer, whole)]
                    if len(found) != len(whole):
                        raise ConfigError(
                            f"the scorer gave {len(found)} scores for {len(whole)} things; expected one each"
                        )
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for things, future in batch:
                    own, found = found[: len(things)], found[len(things) :]
                    if not future.done():
                        future.set_result(own)
        finally:
            self._work = None
