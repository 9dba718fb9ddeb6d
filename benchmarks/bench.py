"""`make bench`: runs every driver at every point in turn, prints the figures, and writes results, plot and page.

Drivers are interleaved (floor, synthkd, peers; repeated), so that a slow minute of the machine meets all of them. A run
during which other processes took more than a little of the machine counts as disturbed: it is left out, and while a
point has no undisturbed run of synthkd and of the floor, nothing is written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import machine, page, peers
from benchmarks.points import Point, figures, named

RESULTS = machine.ROOT / "benchmarks" / "results.json"
FLOOR, ENGINE = "aiohttp", "synthkd"
Runs = dict[str, dict[str, list[dict[str, Any]]]]
"""The runs of each driver at each point."""


def main() -> None:
    """Read the command line, measure, print, write."""
    given = _arguments()
    commands = {FLOOR: [sys.executable, "-m", "benchmarks.floor"], ENGINE: [sys.executable, "-m", "benchmarks.engine"]}
    folders = dict.fromkeys(commands, machine.ROOT)
    about: dict[str, Any] = {**machine.described(), "quick": given.quick}
    if given.peers:
        found, about["absent_peers"] = peers.installed(given.peers)
        commands |= found
        folders |= dict.fromkeys(found, given.peers)
    print(f"load {about['load_at_start']} on {about['cores']} cores; server on core {machine.cores()[-1]}", flush=True)
    points = [point.shortened() if given.quick else point for point in named(given.points)]
    runs: Runs = {point.name: {} for point in points}
    with TemporaryDirectory(prefix="bench-", dir=given.scratch) as scratch, machine.server() as server:
        bench = _Bench(server, Path(scratch), given.timeout)
        for repetition in range(1 if given.quick else given.repetitions):
            for point in points:
                for name, command in commands.items():
                    if not (point.warm and name == FLOOR):
                        run = bench.run(name, command, folders[name], point, repetition)
                        runs[point.name].setdefault(name, []).append(run)
        journal = bench.journal(20_000 if given.quick else given.journal) if given.journal else []
    results = {"about": about, "points": [_summary(point, runs[point.name]) for point in points], "journal": journal}
    print("\n" + page.table(results))
    _write(results, given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition, under a minute; writes nothing")
    parser.add_argument("--points", default="", help="such as plain,latency; all by default")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--journal", type=int, default=200_000, help="rows of the large journal; 0 leaves it out")
    parser.add_argument("--peers", type=Path, help="a folder with peers.json: drivers of other frameworks")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run")
    parser.add_argument("--scratch", type=Path, help="where runs are kept while they are measured")
    return parser.parse_args()


class _Bench:
    """Measures single runs."""

    def __init__(self, server: machine.Server, scratch: Path, timeout: float) -> None:
        self._server = server
        self._scratch = scratch
        self._timeout = timeout

    def run(self, name: str, command: Sequence[str], cwd: Path, point: Point, repetition: int) -> dict[str, Any]:
        """One driver at one point; a disturbed run is made once more."""
        for last in (False, True):
            found = self._once(name, command, cwd, point)
            found["disturbed"] = found["other_cpu"] > machine.QUIET
            if last or not found["disturbed"]:
                break
        numbers = "  ".join(f"{key} {value:g}" for key, value in figures(point, found).items())
        note = found.get("error") or ("disturbed" if found["disturbed"] else "")
        print(
            f"{repetition + 1} {point.name:8} {name:14} {numbers}  other cpu {found['other_cpu']}  {note}", flush=True
        )
        return found

    def _once(self, name: str, command: Sequence[str], cwd: Path, point: Point) -> dict[str, Any]:
        folder = self._scratch / f"{name}-{point.name}"
        shutil.rmtree(folder, ignore_errors=True)
        options = {"--n": point.n, "--url": f"{self._server.url}/v1", "--concurrency": point.in_flight, "--dir": folder}
        words = [*command, *(str(word) for pair in options.items() for word in pair)]
        if point.structured:
            words.append("--structured")
        found: dict[str, Any] = {}
        for _ in range(2 if point.warm else 1):
            self._server.configure(point.server)
            log = self._scratch / f"{name}-{point.name}.log"
            found = machine.measured(words, cwd, self._server, log, self._timeout)
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def journal(self, rows: int) -> list[dict[str, Any]]:
        """A journal of so many rows and one of a tenth: what a run that replays them takes."""
        found = []
        for n in (rows // 10, rows):
            folder = self._scratch / f"journal-{n}"
            for phase in ("fill", "warm"):
                words = [
                    sys.executable,
                    "-m",
                    "benchmarks.replay",
                    "--phase",
                    phase,
                    "--n",
                    str(n),
                    "--dir",
                    str(folder),
                ]
                log = self._scratch / "journal.log"
                run = machine.measured(words, machine.ROOT, self._server, log, 10 * self._timeout)
                run["disturbed"] = run["other_cpu"] > machine.QUIET
                found.append({"rows": n, "phase": phase, **run})
                print(f"journal {phase} {n:,}: {run.get('error') or page.brief(run)}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        return found


def _summary(point: Point, runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A point with the median of each figure over the runs that were not disturbed."""
    drivers: dict[str, Any] = {}
    for name, made in runs.items():
        sound = [figures(point, run) for run in made if not run["disturbed"] and "error" not in run]
        middle = {key: statistics.median(run[key] for run in sound) for key in (sound[0] if sound else ())}
        drivers[name] = {"sound_runs": len(sound), "median": middle, "runs": made}
    floor = drivers.get(FLOOR, {}).get("median", {}).get("cpu_ms_per_req")
    for name in drivers:
        if floor and (cpu := drivers[name]["median"].get("cpu_ms_per_req")):
            drivers[name]["median"]["x_floor"] = round(cpu / floor, 2)
    keys = ("name", "n", "in_flight", "ideal_s", "goals")
    told = {key: getattr(point, key) for key in keys}
    return {**told, "title": point.title.format(n=point.n), "drivers": drivers}


def _write(results: dict[str, Any], given: argparse.Namespace) -> None:
    if given.quick or given.points:
        print("nothing is written by a quick or partial run")
        return
    ours = [
        (point["name"], name) for point in results["points"] for name in point["drivers"] if name in (FLOOR, ENGINE)
    ]
    by_name = {point["name"]: point for point in results["points"]}
    unsound = [f"{name} at {point}" for point, name in ours if not by_name[point]["drivers"][name]["sound_runs"]]
    unsound += [f"journal of {run['rows']:,}" for run in results["journal"] if run["disturbed"] or "error" in run]
    if unsound:
        raise SystemExit(
            f"the machine was busy with something else; nothing is written. Disturbed: {', '.join(unsound)}"
        )
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    page.write(results)
    print(f"written: {RESULTS.relative_to(machine.ROOT)}, docs/benchmarks.md, docs/benchmarks.png")


if __name__ == "__main__":
    main()
