"""What every driver shares: its arguments, the prompts, the check of the answers, the stopwatch and the RESULT line.

A driver is a program that makes `--n` requests through one client and prints one line `RESULT {json}`; another
framework's driver takes the same arguments and prints the same fields (see docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

from benchmarks.server import answer_to

MAX_TOKENS = 256
_TOPIC = (
    "You are given a topic number and must write one short paragraph about it for a general reader. Keep the tone "
    "plain, mention one concrete example and one limitation, and do not use lists. "
    "Topic {i}: how town number {i} keeps its records. "
)
_AS_JSON = "Reply as JSON with the fields answer and text. "
_ANSWER = re.compile(r'answer"?\s*:\s*"?([0-9a-f]{16})')


def prompt(i: int, structured: bool) -> str:
    """The text that row `i` asks, with its mark at the end."""
    return f"{_TOPIC.format(i=i)}{_AS_JSON if structured else ''}<<id:{i}>>"


def arguments(description: str) -> argparse.ArgumentParser:
    """The command line that all drivers take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n", type=int, default=2000, help="requests")
    parser.add_argument("--url", default="http://127.0.0.1:8765/v1")
    parser.add_argument("--concurrency", type=int, default=256, help="requests in flight at the most")
    parser.add_argument("--dir", type=Path, help="where files go; kept between runs, so that a second one is warm")
    parser.add_argument("--structured", action="store_true", help="ask for JSON {answer, text}")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with a folder that exists."""
    given = parser.parse_args()
    given.dir = given.dir or Path(mkdtemp(prefix="bench-"))
    given.dir.mkdir(parents=True, exist_ok=True)
    return given


@dataclass
class Stopwatch:
    """Adds up wall and CPU time (user and system, all threads) of what runs inside of its `with` blocks."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


def checked(n: int, rows: Iterable[tuple[int, str | None]]) -> dict[str, int]:
    """How many rows have the answer that belongs to them, how many are wrong, doubled or missing."""
    seen: set[int] = set()
    wrong = doubled = 0
    for i, text in rows:
        found = _ANSWER.search(text or "")
        if not found or found[1].encode() != answer_to(b"<<id:%d>>" % i):
            wrong += 1
        elif i in seen:
            doubled += 1
        else:
            seen.add(i)
    return {"ok": len(seen), "wrong": wrong, "dup": doubled, "lost": n - len(seen)}


def peak_mb() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def result(n: int, watch: Stopwatch, **more: Any) -> None:
    """Print the one line that is read."""
    figures = {
        "n": n,
        "wall_s": round(watch.wall, 4),
        "cpu_ms_per_req": round(1000 * watch.cpu / n, 4),
        "req_per_s": round(n / watch.wall, 1),
        "peak_mb": round(peak_mb(), 1),
    }
    print("RESULT " + json.dumps({**figures, **more}), flush=True)
