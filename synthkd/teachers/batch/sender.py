"""A teacher's way to a batch API: the only place that names the lines of its calls and keeps a desk per run.

Invariant: asked for the same draws of the same run, another process finds the same lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from synthkd.request import Completion, Limits, Request, keys
from synthkd.teachers.batch.account import Account
from synthkd.teachers.batch.desk import Desk
from synthkd.teachers.batch.lines import Body, Refusal
from synthkd.teachers.batch.options import Batch
from synthkd.teachers.endpoint import Endpoint

PRICE_FACTOR = 0.5
"""What a token costs in a batch, as a share of its price in a single call."""

_log = logging.getLogger("synthkd.batch")


class Batches:
    """Generates for one teacher by batches instead of single calls.

    Args:
        identity: the teacher's.
        endpoint: where the files and batches endpoints are.
        body: a request as the JSON body of a chat completion.
        refusal: what a line's status and error body mean.
        in_flight: how many requests may wait for batches at a time.
        options: how to gather, submit and poll.
    """

    def __init__(
        self,
        identity: str,
        endpoint: Endpoint,
        body: Body,
        refusal: Refusal,
        in_flight: int,
        options: Batch,
    ) -> None:
        self._identity = identity
        self._endpoint = endpoint
        self._body = body
        self._refusal = refusal
        self._options = options
        self._desks: dict[tuple[asyncio.AbstractEventLoop, str], Desk] = {}
        self._asked: Counter[bytes] = Counter()
        self._say: Callable[[str], None] | None = None
        # A line of its own: single calls to the same endpoint do not wait for batches, nor batches for them.
        self.limits = Limits(f"{endpoint.name}/batches", in_flight, adaptive=False, tries=1)

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Draw outside of a run: the nth equal call of a process has the same name in every process."""
        base = request.key(self._identity)
        start = self._asked[base]
        self._asked[base] += n
        return await self.draw(request, keys(self._identity, request, range(start, start + n)), "")

    async def draw(self, request: Request[Any], names: Sequence[bytes], run: str) -> list[Completion]:
        """Make the draws with these journal keys, or find them where an earlier process of this run asked for them.

        Raises:
            TeacherError: the provider refuses this request, or it stayed unanswered in several batches.
            TeacherUnavailable: the provider refuses every request, or does not answer any more.
        """
        place = (asyncio.get_running_loop(), run)
        desk = self._desks.get(place)
        if desk is None:
            account = Account(self._endpoint, self._refusal, self._options)
            desk = self._desks[place] = Desk(
                account, self._identity, run, self._body, self._refusal, self._options, self._told
            )
        return await desk.draw(request, names)

    def watch(self, say: Callable[[str], None]) -> None:
        """Say through this function what otherwise goes to the log `synthkd.batch`."""
        self._say = say

    async def aclose(self) -> None:
        """Leave (or cancel) what runs and close the connections."""
        loop = asyncio.get_running_loop()
        for place in [place for place in self._desks if place[0] is loop]:
            await self._desks.pop(place).aclose()

    def _told(self, text: str, level: int) -> None:
        if self._say is not None:
            self._say(text)
        else:
            _log.log(level, "%s", text)
