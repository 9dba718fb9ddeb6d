"""What a teacher's tokens cost: the only place that knows prices, the caller's own or those of genai-prices.

Invariant: a price that nobody knows is None, never a guess and never 0; nothing here touches the network. An endpoint
on this machine counts as unknown as well, for it may be a proxy that somebody pays for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from synthkd.errors import ConfigError
from synthkd.request import Teacher, Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import TieredPrices

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens.

    Raises:
        ConfigError: a price is negative or no number.
    """

    prompt: float
    completion: float
    """New tokens, reasoning included."""
    cached: float | None = None
    """Tokens of the prompt that the provider had in its cache; None: they cost as much as the others."""

    def __post_init__(self) -> None:
        given = (self.prompt, self.completion, self.cached or 0.0)
        if any(not math.isfinite(value) or value < 0 for value in given):
            raise ConfigError(f"{self}: expected US dollars per million tokens, 0 or more")

    def cost(self, usage: Usage) -> float:
        """US dollars for what was used."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        at = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - cached
        return (fresh * self.prompt + cached * at + usage.completion_tokens * self.completion) / _MILLION

    def most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars that so many tokens cost at most, whatever the provider's cache holds."""
        dearest = max(self.prompt, self.cached or 0.0)
        return (prompt_tokens * dearest + completion_tokens * self.completion) / _MILLION

    def times(self, factor: float) -> Price:
        """The price where everything costs so much of it, as with a provider's batches."""
        cached = None if self.cached is None else self.cached * factor
        return Price(self.prompt * factor, self.completion * factor, cached)


FREE = Price(0.0, 0.0)
"""What a model on one's own machine costs."""


def price_of(teacher: Teacher) -> Price | None:
    """What a teacher's tokens cost, or None where nobody knows.

    In this order: the teacher's own attribute `price`, nothing for a model in this process, and what genai-prices lists
    for the provider's URL and the model (standard prices: for prompts so long that a provider charges more, they are
    too low). All of it times the attribute `price_factor`, where a teacher has one (0.5 for batches).
    """
    price: Price | None = getattr(teacher, "price", None)
    if price is None:
        endpoint = teacher.limits.endpoint
        price = FREE if endpoint.startswith("local:") else _listed(endpoint, str(getattr(teacher, "model", "")))
    factor: float = getattr(teacher, "price_factor", 1.0)
    return price if price is None or factor == 1.0 else price.times(factor)


@lru_cache(maxsize=256)
def _listed(url: str, model: str) -> Price | None:
    """The list's price; the list takes a second to load, so it is left alone where it can know nothing."""
    if not model or not _public(url):
        return None
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, None, url)
    except LookupError:
        return None
    listed = found.get_prices(datetime.now(UTC))
    prompt, completion = _base(listed.input_mtok), _base(listed.output_mtok)
    if prompt is None or completion is None:  # priced by something else than tokens
        return None
    return Price(prompt, completion, _base(listed.cache_read_mtok))


def _base(price: Decimal | TieredPrices | None) -> float | None:
    if price is None:
        return None
    from genai_prices.types import TieredPrices

    return float(price.base if isinstance(price, TieredPrices) else price)


def _public(url: str) -> bool:
    """Whether a provider may be at this URL: a host with a domain, not an address or a name of one's own network."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return parts.scheme in ("http", "https") and "." in host.strip(".")
    return False
