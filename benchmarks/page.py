"""What the figures look like: the table in the terminal, docs/benchmarks.md and its plot, all from results.json.

python -m benchmarks.page      writes page and plot anew from results.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.points import FIGURES

DOCS = machine.ROOT / "docs"
_COLUMNS = ("wall_s", "x_ideal", "cpu_ms_per_req", "x_floor", "req_per_s", "peak_mb", "rejected", "lost")
_HEADS = ("wall s", "x ideal", "CPU ms/request", "x floor", "requests/s", "peak MB", "rejected", "lost")

_INTRO = """# Benchmarks

What synthkd's engine costs, beside the floor: a plain aiohttp client that makes the same requests in the same minutes
and does nothing else. Every figure of synthkd includes everything that a run does: opening the folder, Jinja, keys and
look-ups, the calls, a journal that is committed to disk before a completion is used, typed replies, the stage and its
ledger, and closing with `report.json`. Not in it: the start of Python and imports.

![CPU, wall time and rates beside the floor](benchmarks.png)

## Run them

    make bench                                        # about five minutes, on an idle machine
    make bench BENCH="--quick"                        # under a minute, writes nothing
    make bench BENCH="--journal 1000000"              # the large journal at a million rows
    make bench BENCH="--peers ../peers"               # other frameworks' drivers, where they are installed

The endpoint is `benchmarks/server.py`, a process on a core of its own; drivers get the others. Points are run in turn
and repeated, medians are shown. What other processes took is measured during each run; a disturbed run is left out, and
a machine that does not come to rest writes no results. A folder for `--peers` holds `peers.json` with
`{"name": "command line"}`; a driver takes `--n --url --concurrency --dir [--structured]` and prints one line
`RESULT {"wall_s": ..., "cpu_ms_per_req": ..., "ok": ..., "lost": ...}`.

`rejected` are rows that stand in the ledger with their reason, `lost` those of which nothing is known. Where the server
answers 429 with `Retry-After: 1`, synthkd sends nothing to it for that second, as it was asked; the floor goes on.
"""


def write(results: Mapping[str, Any]) -> None:
    """The page and its plot."""
    from benchmarks.drawing import draw

    draw(results, DOCS / "benchmarks.png")
    about = results["about"]
    absent = about.get("absent_peers") or {}
    parts = [_INTRO, "## Figures", _machine(about), table(results)]
    parts += [f"Not run: {name} ({reason})." for name, reason in absent.items()]
    parts += ["## Goals", "\n".join(_goals(results))]
    if results["journal"]:
        parts += ["## The journal at size", _journal(results["journal"])]
    (DOCS / "benchmarks.md").write_text("\n\n".join(part.rstrip() for part in parts) + "\n")


def table(results: Mapping[str, Any]) -> str:
    """One Markdown row for each driver at each point."""
    lines = [("point", "client", *_HEADS)]
    for point in results["points"]:
        for name, driver in point["drivers"].items():
            shown = [_shown(key, driver["median"].get(key)) for key in _COLUMNS]
            if not driver["median"]:
                shown[0] = _why(driver["runs"])
            lines.append((point["title"], name, *shown))
    return _markdown(lines)


def brief(run: Mapping[str, Any]) -> str:
    """A run of the large journal in one line."""
    lookup = f", a look-up {run['lookup_us']:.0f} us" if "lookup_us" in run else ""
    return (
        f"{run['req_per_s']:,.0f} calls/s, opened in {1000 * run['opening_s']:.0f} ms{lookup}, "
        f"closed in {run['closing_s']:.1f} s, peak {run['peak_mb']:.0f} MB, other cpu {run['other_cpu']}"
    )


def _goals(results: Mapping[str, Any]) -> Iterator[str]:
    for point in results["points"]:
        median = point["drivers"].get("synthkd", {}).get("median", {})
        for key, goal in point["goals"].items():
            if key in median:
                figure, value = FIGURES[key], median[key]
                sign = "at least" if figure.more_is_better else "at most"
                verdict = "met" if figure.met(value, goal) else "missed"
                yield (
                    f"- {point['title']}: {figure.label} {value:,.4g} {figure.unit}, "
                    f"{sign} {goal:,g} {figure.unit} wanted: **{verdict}**"
                )


def _journal(runs: list[Mapping[str, Any]]) -> str:
    lines = [("rows", "file MB", "first run, calls/s", "replayed, calls/s", "opening ms", "one look-up us", "peak MB")]
    for fill, warm in zip(runs[::2], runs[1::2], strict=True):
        rates = (f"{fill['req_per_s']:,.0f}", f"{warm['req_per_s']:,.0f}")
        opening, lookup = f"{1000 * warm['opening_s']:.0f}", f"{warm['lookup_us']:.0f}"
        lines.append(
            (f"{warm['rows']:,}", f"{warm['file_mb']:,.0f}", *rates, opening, lookup, f"{warm['peak_mb']:.0f}")
        )
    return _markdown(lines)


def _machine(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "aiohttp", "uvloop", "pydantic", "sqlite"))
    return (
        f"{about['date']}: {about['processor']}, {about['cores']} cores, {about['system']}; {versions}; "
        f"load {about['load_at_start']} at the start."
    )


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key in ("req_per_s", "peak_mb", "rejected", "lost"):
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _why(runs: list[Mapping[str, Any]]) -> str:
    return next((str(run["error"])[:60] for run in runs if "error" in run), "disturbed")


def _markdown(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


if __name__ == "__main__":
    from benchmarks.bench import RESULTS

    write(json.loads(RESULTS.read_text()))
