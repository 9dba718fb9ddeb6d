"""What a run is doing right now: the counters that everything adds to, and the live view that shows them."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live


@dataclass(slots=True)
class Counters:
    """Running totals of one run; written on the run's loop, read by whoever shows them."""

    stage: str = ""
    """The stage at work."""
    total: int | None = None
    """Its records, where their number is known."""
    done: int = 0
    """Records of this stage that are finished, rejected ones included."""
    rejected: int = 0
    """Those of them that were rejected."""
    calls: int = 0
    """Completions drawn from teachers in this process."""
    replayed: int = 0
    """Completions found in the journal."""
    in_flight: int = 0
    """Calls on their way."""
    retries: int = 0
    """Attempts that failed and were made again."""
    repairs: int = 0
    """Invalid replies sent back with the validation error."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """US dollars paid by this process, for calls whose price is known."""
    silent_until: float = 0.0
    """When an endpoint that asked for silence may be called again, as `time.monotonic()`."""
    finished: list[str] = field(default_factory=list)
    """One line for each finished stage."""


class LiveView:
    """Shows the counters: a live line on a terminal, a line now and then elsewhere, nothing when quiet."""

    def __init__(self, counters: Counters, title: str, quiet: bool) -> None:
        self._counters = counters
        self._title = title
        self._quiet = quiet
        self._live: Live | None = None
        self._meter = _Meter(counters)

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts."""
        self._counters.stage, self._counters.total = stage, total
        self._counters.done = self._counters.rejected = 0
        self._meter.restart()
        if not self._quiet and self._live is None:
            self._live = _live(self._meter)

    def end(self, line: str) -> None:
        """A stage is finished; its line stays on the screen."""
        self._counters.finished.append(line)
        self.stop()
        self.say(line)

    def stop(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """A line that stays, on standard error."""
        if not self._quiet:
            print(f"{self._title} | {line}", file=sys.stderr, flush=True)


class _Meter:
    """Rates over the last seconds, and the line made of them; rendered anew at each refresh."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._window: deque[tuple[float, int, int]] = deque(maxlen=40)
        self.restart()

    def restart(self) -> None:
        self._began = time.monotonic()
        self._window.clear()

    def line(self) -> str:
        """For example `answer  1,204/5,000 rows  37 rejected  256 in flight  812 rows/s  3 retries  4s left`."""
        c, now = self._counters, time.monotonic()
        tokens = c.prompt_tokens + c.completion_tokens
        self._window.append((now, c.done, c.calls))
        then, done, calls = self._window[0]
        span = max(now - then, 1e-9)
        rate, call_rate = (c.done - done) / span, (c.calls - calls) / span
        parts = [c.stage, f"{c.done:,}" + (f"/{c.total:,}" if c.total is not None else "") + " rows"]
        if c.rejected:
            parts.append(f"{c.rejected:,} rejected")
        parts.append(f"{c.in_flight:,} in flight")
        if c.silent_until - now > 1:
            parts.append(f"silent for {_duration(c.silent_until - now)}, as the endpoint asked")
        if len(self._window) > 1:
            parts.append(f"{rate:,.0f} rows/s, {call_rate:,.0f} calls/s" if rate >= 1 else f"{60 * rate:,.1f} rows/min")
        if c.retries:
            parts.append(f"{c.retries:,} retries")
        if c.repairs:
            parts.append(f"{c.repairs:,} repairs")
        parts.append(f"{tokens:,} tokens")
        if c.cost:
            parts.append(f"${c.cost:,.4f}" if c.cost < 1 else f"${c.cost:,.2f}")
        overall = c.done / max(now - self._began, 1e-9)
        if c.total and overall:
            parts.append(f"{_duration((c.total - c.done) / overall)} left")
        return "  ".join(parts)

    def __rich__(self) -> str:
        return self.line()


def _live(meter: _Meter) -> Live | None:
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.live import Live

    live = Live(meter, console=Console(stderr=True), refresh_per_second=4, transient=True)
    live.start()
    return live


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
