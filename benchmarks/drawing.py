"""The plot of docs/benchmarks.md: CPU per request, wall time against the ideal, and rates, each client a dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.points import FIGURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("cpu_ms_per_req", "CPU per request (ms)", ("plain", "json", "faults", "rate")),
    ("x_ideal", "Wall time, as a multiple of the ideal", ("latency", "rate", "ceiling")),
    ("req_per_s", "Requests a second", ("plain", "json", "rate", "warm")),
)
_SHORT = {
    "plain": "plain text",
    "json": "JSON replies",
    "faults": "JSON, with faults",
    "rate": "50 ms, 512 in flight",
    "latency": "200 ms, 256 in flight",
    "ceiling": "server takes 128 of 256",
    "warm": "replayed from disk",
}
_OURS, _FLOOR = "synthkd", "aiohttp"
_COLOURS = {_OURS: "#0b6e99", _FLOOR: "#9a9a9a"}
_OTHERS = ("#c8553d", "#d99a2b", "#6b8f3c", "#7d5ba6", "#8c6d5a")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write the plot as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = {point["name"]: point for point in results["points"]}
    names = sorted({name for point in points.values() for name in point["drivers"]}, key=_order)
    colours = {**dict(zip([n for n in names if n not in _COLOURS], _OTHERS * 4, strict=False)), **_COLOURS}
    pyplot.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans"})
    heights = [len([name for name in panel[2] if name in points]) for panel in _PANELS]
    figure, axes = pyplot.subplots(
        len(_PANELS), 1, figsize=(7.6, 1.5 + 0.5 * sum(heights)), height_ratios=heights, layout="constrained"
    )
    for axis, (key, title, wanted) in zip(axes, _PANELS, strict=True):
        rows = [points[name] for name in wanted if name in points]
        _panel(axis, key, rows, names, colours)
        axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    handles, labels = _legend(axes[0], names, colours)
    figure.legend(handles, labels, loc="outside upper left", ncols=min(6, len(labels)), frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _order(name: str) -> tuple[int, str]:
    return ((_FLOOR, _OURS).index(name) if name in _COLOURS else 2, name)


def _panel(
    axis: Axes, key: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str], colours: Mapping[str, str]
) -> None:
    """One figure at several points: a line per point, a dot per client, a tick where the goal is."""
    values = [
        (place, name, row["drivers"][name]["median"][key])
        for place, row in enumerate(rows)
        for name in names
        if key in row["drivers"].get(name, {}).get("median", {})
    ]
    most = max((value for _, _, value in values), default=1.0)
    least = min((value for _, _, value in values), default=0.1)
    wide = most > 12 * least
    for place, name, value in values:
        ours = name == _OURS
        axis.plot(value, place, "o", color=colours[name], markersize=9 if ours else 7, zorder=3 + ours, clip_on=False)
        if name in _COLOURS:
            axis.annotate(
                _label(value), (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=8,
                color=colours[name], fontweight="bold" if ours else "normal",
            )  # fmt: skip
    for place, row in enumerate(rows):
        if key in row["goals"]:
            axis.plot([row["goals"][key]] * 2, [place - 0.32, place + 0.32], color="#222222", linewidth=1.6, zorder=2)
            most, least = max(most, row["goals"][key]), min(least, row["goals"][key])
    axis.set_yticks(range(len(rows)), [_SHORT[row["name"]] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.7)
    if wide:
        axis.set_xscale("log")
        axis.set_xlim(least / 1.5, most * 1.5)
    else:
        axis.set_xlim(0, most * 1.12)
    axis.xaxis.set_major_formatter(lambda value, _: _label(value))
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    better = "more is better" if FIGURES[key].more_is_better else "less is better"
    axis.set_xlabel(better, loc="right", fontsize=8, color="#666666")


def _legend(axis: Axes, names: Sequence[str], colours: Mapping[str, str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    dots: list[Any] = [
        Line2D([], [], marker="o", linestyle="", color=colours[name], markersize=8 if name == _OURS else 7)
        for name in names
    ]
    shown = {_FLOOR: "plain aiohttp (the floor)", _OURS: "synthkd, everything included"}
    goal = Line2D([], [], marker="|", linestyle="", color="#222222", markersize=12, markeredgewidth=1.6)
    return [*dots, goal], [*(shown.get(name, name) for name in names), "goal"]


def _label(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if value < 100 else f"{value:.0f}"
