"""How batches are made and watched: the only place where this can be set, and what a watcher is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synthkd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one batch stands."""

    batch: str
    """The provider's id of it."""
    status: str
    done: int
    """Requests that are answered."""
    failed: int
    total: int

    def __str__(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"batch {self.batch}: {self.done:,} of {self.total:,} requests answered{failed} ({self.status})"


@dataclass(frozen=True, slots=True)
class Batch:
    """How `OpenAITeacher(..., batch=Batch(...))` gathers, submits and polls; no part of a call's identity.

    Raises:
        ConfigError: a value that makes no sense.
    """

    gather_seconds: float = 2.0
    """A file is closed when no further request has come for so long, or when it is full."""
    most_lines: int = 50_000
    """Requests in one file; the provider's limit."""
    most_bytes: int = 200_000_000
    """Size of one file; the provider's limit."""
    poll_seconds: tuple[float, float] = (5.0, 60.0)
    """The first and the longest pause between two looks at a batch."""
    rounds: int = 3
    """In how many batches a request may fail, expire or be missing before its record is rejected."""
    cancel_on_stop: bool = False
    """Cancel what runs when the run stops; otherwise it goes on at the provider, and the next run takes it over."""
    progress: Callable[[Progress], None] | None = None
    """Called when a batch gets on."""

    def __post_init__(self) -> None:
        first, longest = self.poll_seconds
        if min(self.most_lines, self.most_bytes, self.rounds) < 1 or self.gather_seconds < 0:
            raise ConfigError(f"{self}: most_lines, most_bytes and rounds must be at least 1, gather_seconds 0")
        if not 0 < first <= longest:
            raise ConfigError(f"poll_seconds={self.poll_seconds}: expected (first, longest), both positive")
