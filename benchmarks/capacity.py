"""Does the engine find an endpoint's capacity? Its own limit beside every fixed one, at ceilings it is not told of.

python -m benchmarks.capacity [--quick] [--scenes NAMES]: for each scene the wall time and the refused calls of each
fixed number in flight, and of the limit that adapts under a cap it could not use.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import machine


@dataclass(frozen=True)
class Scene:
    """One endpoint with a ceiling."""

    name: str
    n: int
    server: Mapping[str, float]
    fixed: tuple[int, ...]
    """Limits to compare with; the best of them is what somebody who knows the endpoint would set."""
    cap: int = 1024


SCENES = (
    Scene("takes 128", 6000, {"latency_ms": 200, "max_concurrent": 128, "retry_after": 0}, (64, 112, 128, 144)),
    Scene("takes 128, Retry-After 1", 12000, {"latency_ms": 200, "max_concurrent": 128}, (64, 112, 128, 144)),
    Scene("takes 600", 24000, {"latency_ms": 400, "max_concurrent": 600, "retry_after": 0}, (400, 540, 600, 680)),
    Scene("takes 24", 3000, {"latency_ms": 50, "max_concurrent": 24, "retry_after": 0}, (12, 20, 24, 28)),
    Scene("takes 1000 a second", 10000, {"latency_ms": 100, "rps": 1000, "retry_after": 0}, (64, 96, 110, 140)),
    Scene("takes 100 a second", 2000, {"latency_ms": 300, "rps": 100, "retry_after": 0}, (16, 26, 33, 40)),
    Scene("refuses 5 % at any load", 5000, {"latency_ms": 200, "p429": 0.05, "retry_after": 0}, (256,), 256),
    Scene("refuses nothing", 5000, {"latency_ms": 200}, (256,), 256),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the requests, once")
    parser.add_argument("--scenes", default="", help="parts of their names, with commas between")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    wanted = [scene for scene in SCENES if any(part in scene.name for part in given.scenes.split(","))]
    print("| endpoint | limit | wall s | refused | x best fixed |\n|---|---|---|---|---|")
    with TemporaryDirectory(prefix="bench-") as scratch, machine.server() as server:
        for scene in wanted:
            times: dict[str, list[float]] = {}
            refused: dict[str, list[int]] = {}
            for _ in range(1 if given.quick else given.repetitions):
                for limit in (*scene.fixed, 0):
                    name = f"fixed {limit}" if limit else f"adaptive, cap {scene.cap}"
                    found = _run(server, Path(scratch), scene, limit, scene.n // 3 if given.quick else scene.n)
                    times.setdefault(name, []).append(found["wall_s"])
                    refused.setdefault(name, []).append(found["received"] - found["n"])
            middle = {name: statistics.median(walls) for name, walls in times.items()}
            best = min(wall for name, wall in middle.items() if name.startswith("fixed"))
            for name, wall in middle.items():
                lost = statistics.median(refused[name])
                print(f"| {scene.name} | {name} | {wall:.2f} | {lost:,.0f} | {wall / best:.2f} |", flush=True)


def _run(server: machine.Server, scratch: Path, scene: Scene, limit: int, n: int) -> dict[str, Any]:
    """One run; `limit` 0 is the engine's own."""
    server.configure(scene.server)
    folder = scratch / "run"
    shutil.rmtree(folder, ignore_errors=True)
    options = {"--n": n, "--url": f"{server.url}/v1", "--concurrency": limit or scene.cap, "--dir": folder}
    words = [
        sys.executable,
        "-m",
        "benchmarks.engine",
        "--no-check",
        *(str(w) for pair in options.items() for w in pair),
    ]
    found = machine.measured([*words, *(["--fixed"] if limit else [])], machine.ROOT, server, scratch / "log", 600)
    if "error" in found:
        raise SystemExit(f"{scene.name}, limit {limit}: {found['error']}\n{(scratch / 'log').read_text()[-2000:]}")
    return found


if __name__ == "__main__":
    main()
