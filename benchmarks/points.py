"""The points at which everything is measured, and what synthkd promises at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Point:
    """One load: so many requests, so many in flight, against a server that behaves so."""

    name: str
    title: str
    """With `{n:,}` where the number of requests goes."""
    n: int
    in_flight: int = 256
    server: Mapping[str, float] = field(default_factory=dict)
    """The server's settings that are not at their default."""
    structured: bool = False
    """JSON replies, typed."""
    warm: bool = False
    """A second run on the folder that a first one has just filled; for drivers that keep a journal."""
    goals: Mapping[str, float] = field(default_factory=dict)
    """Bounds of synthkd's figures, by the figure's name; see `FIGURES`."""

    @property
    def ideal_s(self) -> float:
        """Wall time if nothing but the server's latency took any."""
        return self.n / self.in_flight * self.server.get("latency_ms", 0.0) / 1000

    def shortened(self) -> Point:
        """The same load with a quarter of the requests, for a quick look."""
        return replace(self, n=max(1000, self.n // 4))


@dataclass(frozen=True)
class Figure:
    """One number of a run."""

    label: str
    unit: str
    more_is_better: bool = False

    def met(self, value: float, goal: float) -> bool:
        """Whether a value keeps to its bound."""
        return value >= goal if self.more_is_better else value <= goal


FIGURES = {
    "wall_s": Figure("wall", "s"),
    "x_ideal": Figure("x ideal", "x"),
    "cpu_ms_per_req": Figure("CPU per request", "ms"),
    "req_per_s": Figure("requests a second", "/s", more_is_better=True),
    "peak_mb": Figure("peak memory", "MB"),
    "rejected": Figure("rows rejected", ""),
    "lost": Figure("rows lost", ""),
}

_FAULTS = {"latency_ms": 50, "p429": 0.05, "p500": 0.02, "malformed": 0.02}

POINTS = (
    Point("plain", "{n:,} requests, plain text, no latency", 5000, goals={"cpu_ms_per_req": 0.6}),
    Point("json", "{n:,} requests, JSON replies, no latency", 5000, structured=True, goals={"cpu_ms_per_req": 0.8}),
    Point("latency", "{n:,} at 200 ms, 256 in flight", 5000, 256, {"latency_ms": 200}, goals={"x_ideal": 1.10}),
    Point("rate", "{n:,} at 50 ms, 512 in flight", 20_000, 512, {"latency_ms": 50}, goals={"req_per_s": 1500}),
    Point("faults", "{n:,} JSON at 50 ms, 5 % 429, 2 % 500, 2 % malformed", 5000, 256, _FAULTS, True),
    Point("unasked", "the same, no 429 asks for silence", 5000, 256, {**_FAULTS, "retry_after": 0}, True),
    Point(
        "ceiling",
        "{n:,} at 50 ms, 256 wanted where 128 are taken",
        5000,
        256,
        {"latency_ms": 50, "max_concurrent": 128},
    ),
    Point("warm", "{n:,} replayed from the journal", 20_000, warm=True, goals={"req_per_s": 20_000}),
)


def named(names: str) -> list[Point]:
    """The points of a list such as `plain,latency`; all of them for an empty one."""
    wanted = [name for name in names.split(",") if name]
    known = {point.name: point for point in POINTS}
    if unknown := set(wanted) - known.keys():
        raise SystemExit(f"no such point: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(POINTS)


def figures(point: Point, run: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a run at this point has."""
    found = {name: float(run[name]) for name in FIGURES if run.get(name) is not None}
    if point.ideal_s and "wall_s" in found:
        found["x_ideal"] = round(found["wall_s"] / point.ideal_s, 3)
    return found
