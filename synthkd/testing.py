"""Public fakes: teachers for tests, made of a function. Everything else in a test is best the real thing."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from synthkd.prices import Price
from synthkd.request import Completion, Limits, Request, Sampling


class FunctionTeacher:
    """A teacher that answers with what a function returns, and counts its calls.

    Args:
        answer: `(request) -> str | Completion`, or an async function of the same; it may raise synthkd's errors.
        identity: under which its completions are journaled.
        native_schema: whether a reply's schema is left out of the prompt.
        most: how many choices it gives per call, as some servers ignore `n`.
        price: of its tokens; unknown by default.
    """

    def __init__(
        self,
        answer: Callable[[Request[Any]], str | Completion | Awaitable[str | Completion]],
        identity: str = "function",
        *,
        native_schema: bool = True,
        sampling: Sampling | None = None,
        limits: Limits | None = None,
        most: int | None = None,
        price: Price | None = None,
    ) -> None:
        self._answer = answer
        self.identity = identity
        self.native_schema = native_schema
        self.sampling = sampling or Sampling()
        self.limits = limits or Limits(endpoint=identity, adaptive=False, longest_wait=0.05)
        self.most = most
        self.price = price
        self.calls: list[Request[Any]] = []
        """Every request it was asked, in order."""

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Ask the function once for each draw."""
        self.calls.append(request)
        found = []
        for _ in range(min(n, self.most or n)):
            answer = self._answer(request)
            if inspect.isawaitable(answer):
                answer = await answer
            found.append(Completion(answer, finish_reason="stop") if isinstance(answer, str) else answer)
        return found

    async def aclose(self) -> None:
        """Nothing to give back."""
