"""What is done for one record outside of the teacher: the only place that keeps what has a state true on a replay.

Invariant: what was done once is not done again, unless something new follows on it. An act on a state (a stateful tool,
an environment) is known by all such acts before it; the first one that the journal does not have is preceded by those
that it has, on a fresh state, and each must give what it gave then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Any

import orjson
from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import RecordError

Act = Callable[[], Awaitable[JsonValue]]


class Course:
    """The acts for one record, in their order."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._past: list[tuple[str, Act, JsonValue]] = []
        self._lived = 0
        self._digest = ""

    async def do(self, name: str, arguments: Mapping[str, Any], act: Act) -> JsonValue:
        """Do something that depends on nothing done before, or give what it gave when it was done for this record."""
        return await self.ask.effect(name, arguments, act)

    async def follow(self, name: str, arguments: Mapping[str, Any], act: Act) -> JsonValue:
        """Do something that depends on what was done before, or give what it gave after the same acts.

        The state must be made by the first act, or be fresh for this record.

        Raises:
            RecordError: what was done before gives something else now (reason `diverged`).
        """

        async def caught_up() -> JsonValue:
            await self._catch_up()
            result = await act()
            self._lived += 1
            return result

        asked = {**arguments, "after": self._digest}
        result = await self.ask.effect(name, asked, caught_up)
        self._past.append((name, act, result))
        self._digest = blake2b(orjson.dumps((name, asked), option=orjson.OPT_SORT_KEYS), digest_size=10).hexdigest()
        return result

    async def _catch_up(self) -> None:
        """Bring a fresh state to where the journal's recording ends."""
        while self._lived < len(self._past):
            name, act, recorded = self._past[self._lived]
            again = await act()
            if again != recorded:
                raise RecordError(
                    f"{name!r}, act {self._lived + 1} on a state that is no longer there, was done again to go on from "
                    f"where the journal ends, and gave {str(again)[:120]!r}; it had given {str(recorded)[:120]!r}. "
                    "What has a state must give the same for the same acts, such as by a fixed seed.",
                    reason="diverged",
                )
            self._lived += 1
