"""What a run may spend: the only place that counts money, calls and tokens against a limit.

A call reserves what it may cost at most before it is made, and settles for what it did cost. One that does not fit
waits, in order, while calls in flight may leave something over. Invariants: as long as no call takes more than was
reserved for it, the limit is never passed; the run is stopped only when nothing is in flight, so that nothing is paid
for and lost; everything reserved is settled or released.

A limit is the run folder's, over all processes that ever worked in it: what the journal holds counts, and resuming a
run goes on counting. A call is one completion drawn. Calls that failed count as free, as providers have it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from synthkd.errors import BudgetExceeded, ConfigError
from synthkd.prices import Price, price_of
from synthkd.request import Completion, Request, Teacher, schema

_FIRST_GUESS = 4096
"""New tokens that a call is taken to need at most where nothing sets `max_tokens`, and few calls have been seen."""
_FEW = 32
_LEAST_GUESS = 512
_MARGIN = 2
"""So many times the longest completion seen is what the next one may be at most, where nothing sets `max_tokens`."""
_PER_MESSAGE, _PER_PROMPT = 16, 64
"""Tokens that a chat template may put around a message, and around them all."""
_PER_IMAGE = 2048
"""Tokens that a picture is taken to need at most."""
_UNITS = 10**12
"""Money is counted in whole picodollars, so that what is reserved and released adds up to nothing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What the journal holds of one teacher: all of it with a known cost, or all of it without."""

    teacher: str
    """Identity."""
    calls: int
    prompt_tokens: int
    completion_tokens: int
    longest: int
    """New tokens of the longest completion."""
    cost: float | None
    """US dollars; None: no price was known when these calls were made."""


@dataclass(frozen=True, slots=True)
class _Amount:
    calls: int = 0
    tokens: int = 0
    money: int = 0

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.calls + other.calls, self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: _Amount) -> _Amount:
        return _Amount(self.calls - other.calls, self.tokens - other.tokens, self.money - other.money)


class Budget:
    """The limits of one run folder, and what of them is gone. Without limits it only counts.

    Args:
        max_cost: US dollars.
        max_calls: completions drawn.
        max_tokens: of prompts and completions together.

    Raises:
        ConfigError: a limit is negative.
    """

    def __init__(
        self, max_cost: float | None = None, max_calls: int | None = None, max_tokens: int | None = None
    ) -> None:
        self._limits = {"max_cost": max_cost, "max_calls": max_calls, "max_tokens": max_tokens}
        for name, limit in self._limits.items():
            if limit is not None and not limit >= 0:
                raise ConfigError(f"{name}={limit}: expected 0 or more (0 pays for nothing and replays what is there)")
        self.limited = any(limit is not None for limit in self._limits.values())
        """Whether there is any limit."""
        self._max_money = None if max_cost is None else math.floor(max_cost * _UNITS)
        self._spent = self._reserved = _Amount()
        self._in_flight = 0
        self._waiting: deque[tuple[asyncio.Future[None], _Amount]] = deque()
        self._seen: dict[str, tuple[int, int]] = {}
        self._prices: dict[int, tuple[Teacher, Price | None]] = {}
        self._over: str | None = None

    @property
    def spent(self) -> tuple[float, int, int]:
        """US dollars (where prices are known), calls and tokens so far, earlier processes included."""
        return self._spent.money / _UNITS, self._spent.calls, self._spent.tokens

    @property
    def reserved(self) -> tuple[float, int, int]:
        """What calls in flight may cost at most: US dollars, calls, tokens."""
        return self._reserved.money / _UNITS, self._reserved.calls, self._reserved.tokens

    def check(self, roles: Mapping[str, Teacher]) -> None:
        """See that every teacher has a price where money is limited.

        Raises:
            ConfigError: one has none.
        """
        if self._max_money is None:
            return
        for role, teacher in roles.items():
            if self.price(teacher) is None:
                raise ConfigError(
                    f"max_cost={self._limits['max_cost']:g}: no price is known for {teacher.identity} (role {role!r}). "
                    "Give it one in US dollars per million tokens: OpenAITeacher(..., price=Price(0.4, 1.6)), or on "
                    f"the command line --price {role}=0.4,1.6 (0,0 where it costs nothing). Or limit calls or tokens."
                )

    def resume(self, before: Iterable[Spent], roles: Mapping[str, Teacher]) -> None:
        """Count what earlier processes spent in this folder.

        Raises:
            ConfigError: money is limited, and nobody knows what some of it cost.
        """
        players = {teacher.identity: teacher for teacher in roles.values()}
        for line in before:
            calls, longest = self._seen.get(line.teacher, (0, 0))
            self._seen[line.teacher] = (calls + line.calls, max(longest, line.longest))
            cost = line.cost
            if cost is None and self._max_money is not None:
                price = self.price(players[line.teacher]) if line.teacher in players else None
                if price is None:
                    raise ConfigError(
                        f"max_cost={self._limits['max_cost']:g}: this folder holds {line.calls:,} calls of "
                        f"{line.teacher}, and nobody knows what they cost. Use a new folder, or limit calls or tokens."
                    )
                cost = price.most(line.prompt_tokens, line.completion_tokens)
            tokens = line.prompt_tokens + line.completion_tokens
            self._spent += _Amount(line.calls, tokens, round((cost or 0.0) * _UNITS))

    def price(self, teacher: Teacher) -> Price | None:
        """The teacher's price; looked up once."""
        found = self._prices.get(id(teacher))
        if found is None:
            found = self._prices[id(teacher)] = (teacher, price_of(teacher))
        return found[1]

    async def reserve(self, teacher: Teacher, request: Request[Any], n: int) -> Reservation:
        """Set aside what `n` draws may cost at most; waits while calls in flight may leave enough over.

        Raises:
            BudgetExceeded: nothing is in flight any more, and it does not fit.
        """
        price = self.price(teacher)
        if not self.limited:
            return Reservation(self, teacher, _Amount())
        most = self._most(teacher, request, n, price)
        if self._over is None and not self._waiting and self._fits(most):
            self._take(most)
            return Reservation(self, teacher, most)
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((place, most))
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:  # given and cancelled at once
                self.give_back(most)
            else:
                place.cancel()
                self._wake()
            raise
        return Reservation(self, teacher, most)

    def settle(self, teacher: Teacher, completions: Sequence[Completion]) -> list[float | None]:
        """What completions cost, each; they count as spent."""
        price = self.price(teacher)
        costs = [None if price is None else price.cost(completion.usage) for completion in completions]
        money = round(sum(cost or 0.0 for cost in costs) * _UNITS)
        tokens = sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in completions)
        calls, longest = self._seen.get(teacher.identity, (0, 0))
        longest = max(longest, *(c.usage.completion_tokens for c in completions), 0)
        self._seen[teacher.identity] = (calls + len(completions), longest)
        self._spent += _Amount(len(completions), tokens, money)
        return costs

    def give_back(self, most: _Amount) -> None:
        """A call is over: what it reserved and has not spent is there for others."""
        if self.limited:
            self._reserved -= most
            self._in_flight -= 1
            self._wake()

    def _most(self, teacher: Teacher, request: Request[Any], n: int, price: Price | None) -> _Amount:
        """An upper estimate: no tokenizer makes more tokens than there are bytes, and `max_tokens` holds."""
        prompt = _PER_PROMPT + sum(
            len(m.text.encode()) + _PER_MESSAGE + _PER_IMAGE * len(m.images) for m in request.messages
        )
        if request.reply is not str and teacher.native_schema:
            prompt += len(orjson.dumps(schema(request.reply)))
        new = n * (request.sampling.max_tokens or teacher.sampling.max_tokens or self._guess(teacher))
        return _Amount(n, prompt + new, math.ceil(price.most(prompt, new) * _UNITS) + 1 if price else 0)

    def _guess(self, teacher: Teacher) -> int:
        calls, longest = self._seen.get(teacher.identity, (0, 0))
        return max(_MARGIN * longest, _FIRST_GUESS if calls < _FEW else _LEAST_GUESS)

    def _fits(self, more: _Amount) -> bool:
        return not self._obstacle(more)

    def _obstacle(self, more: _Amount) -> str:
        """The limit that does not allow for more, or nothing."""
        whole = self._spent + self._reserved + more
        max_calls, max_tokens = self._limits["max_calls"], self._limits["max_tokens"]
        if self._max_money is not None and whole.money > self._max_money:
            return "max_cost"
        if max_calls is not None and whole.calls > max_calls:
            return "max_calls"
        if max_tokens is not None and whole.tokens > max_tokens:
            return "max_tokens"
        return ""

    def _take(self, most: _Amount) -> None:
        self._reserved += most
        self._in_flight += 1

    def _wake(self) -> None:
        """Let those through who fit, in order; when nothing is in flight, nobody will ever fit who does not now."""
        while self._waiting:
            place, most = self._waiting[0]
            if not place.done():
                if self._over is None and self._fits(most):
                    self._take(most)
                    place.set_result(None)
                elif self._in_flight:
                    return
                else:
                    self._over = self._over or self._said(most)
                    place.set_exception(BudgetExceeded(self._over))
            self._waiting.popleft()

    def _said(self, most: _Amount) -> str:
        name = self._obstacle(most)
        limit, spent = self._limits[name], self._spent
        gone, more, shown, unit = {
            "max_cost": (f"{spent.money / _UNITS:.4g}", f"{most.money / _UNITS:.3g}", f"{limit:g}", "US dollars"),
            "max_calls": (f"{spent.calls:,}", f"{most.calls:,}", f"{limit:,}", "calls"),
            "max_tokens": (f"{spent.tokens:,}", f"{most.tokens:,}", f"{limit:,}", "tokens"),
        }[name]
        hint = " A limit of new tokens (Sampling(max_tokens=...)) makes that less." if name != "max_calls" else ""
        return (
            f"the limit of {shown} {unit} is reached: {gone} are spent in this folder, and the next call may take "
            f"up to {more} more.{hint} Everything paid for is kept; to go on, give a higher {name} "
            f"(--{name.replace('_', '-')})."
        )


class Reservation:
    """What one call has set aside: `with await budget.reserve(...) as reserved: reserved.settle(completions)`."""

    __slots__ = ("_budget", "_most", "_teacher")

    def __init__(self, budget: Budget, teacher: Teacher, most: _Amount) -> None:
        self._budget = budget
        self._teacher = teacher
        self._most = most

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.give_back(self._most)

    def settle(self, completions: Sequence[Completion]) -> list[float | None]:
        """Count what came back as spent; what each cost, None where the price is unknown."""
        return self._budget.settle(self._teacher, completions)
