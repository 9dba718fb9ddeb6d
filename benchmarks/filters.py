"""`python -m benchmarks.filters`: what novelty and MinHash take, and how right they are.

Texts are made up: words with the frequencies of a natural language, and among them texts that differ from an earlier
one in a few words. The reference for novelty is the loop that Self-Instruct has, `rouge_score` on each pair; it takes
hours, so it is timed on a sample and extrapolated. The reference for MinHash is the exact Jaccard similarity of a
sample of texts with every text that was kept before them. Each filter runs in a process of its own, for its peak
memory.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks import machine
from synthkd.filters import dedup, novelty
from synthkd.filters.words import smoothed
from synthkd.record import Instruction

THRESHOLD, NEAR = 0.7, 0.8
_SAMPLE = 10_000
"""Texts whose MinHash verdict is compared with the exact one."""


def main() -> None:
    """Measure, print the table, write the figures."""
    given = _arguments()
    if given.phase:
        found = novelty_figures(given.instructions) if given.phase == "novelty" else minhash_figures(given.texts)
        print("RESULT " + json.dumps(found))
        return
    if given.quick:
        given.instructions, given.texts = 2000, 50_000
    about = {
        **machine.described(),
        **{name: version(name) for name in ("numpy", "rensa", "rouge-score")},
        "quick": given.quick,
    }
    print(f"{about['processor']}, {about['cores']} cores, Python {about['python']}, load {about['load_at_start']}\n")
    results = {"about": about, **{phase: _alone(phase, given) for phase in ("novelty", "minhash")}}
    print(table(results))
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filters", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the instructions, a twentieth of the texts")
    parser.add_argument("--instructions", type=int, default=20_000, help="for novelty; half of them are near others")
    parser.add_argument("--texts", type=int, default=1_000_000, help="for MinHash")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--phase", choices=("novelty", "minhash"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _alone(phase: str, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.filters", "--phase", phase]
    command += ["--instructions", str(given.instructions), "--texts", str(given.texts)]
    done = subprocess.run(command, cwd=machine.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    return found


class Writer:
    """Makes texts up: words as frequent as Zipf's law has it, and copies of earlier texts with changes."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgkqjxz"
        self._words = ["".join(self._rng.choices(letters, k=self._rng.randint(2, 9))) for _ in range(20_000)]
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))
        self._texts: list[str] = []

    def texts(self, count: int, copies: float, changes: int) -> list[str]:
        """Of so many texts a share are copies of earlier ones with up to so many changed words."""
        for _ in range(count):
            if self._texts and self._rng.random() < copies:
                words = self._rng.choice(self._texts).split()
                for _ in range(self._rng.randint(0, changes)):
                    words[self._rng.randrange(len(words))] = self._drawn(1)[0]
            else:
                words = self._drawn(self._rng.randint(8, 25))
            self._texts.append(" ".join(words))
        return self._texts

    def _drawn(self, count: int) -> list[str]:
        return self._rng.choices(self._words, cum_weights=self._weights, k=count)


def novelty_figures(count: int) -> dict[str, Any]:
    """Time of the filter and of the loop with `rouge_score`, and whether their verdicts agree on a sample."""
    from rouge_score import rouge_scorer

    texts = Writer().texts(count, copies=0.5, changes=2)
    records = [Instruction(prompt=text) for text in texts]
    began = time.perf_counter()
    verdicts = list(novelty(THRESHOLD)(records))
    took = time.perf_counter() - began
    sizes = [0, *accumulate(verdict is None for verdict in verdicts)]
    kept = [text for text, verdict in zip(texts, verdicts, strict=True) if verdict is None]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    compared, agreed, spent = 0, 0, 0.0
    sample = sorted(random.Random(2).sample(range(count), 40))
    for place in sample:
        began = time.perf_counter()
        scores = [scorer.score(other, texts[place])["rougeL"].fmeasure for other in kept[: sizes[place]]]
        spent += time.perf_counter() - began
        compared += len(scores)
        agreed += (max(scores, default=0.0) >= THRESHOLD) == (verdicts[place] is not None)
    pairs = sum(sizes[:-1])
    reference = pairs * spent / compared
    return {
        "instructions": count,
        "pool_at_the_end": sizes[-1],
        "pairs": pairs,
        "seconds": round(took, 2),
        "peak_mb": _peak_mb(),
        "reference_us_per_pair": round(1e6 * spent / compared, 1),
        "reference_seconds_extrapolated": round(reference),
        "times_faster": round(reference / took),
        "verdicts_compared": len(sample),
        "verdicts_that_agree": agreed,
    }


def minhash_figures(count: int) -> dict[str, Any]:
    """Time and memory of the filter, and its recall and precision on a sample."""
    texts = Writer().texts(count, copies=0.2, changes=3)
    before = _peak_mb()
    began = time.perf_counter()
    verdicts = list(dedup.minhash(NEAR)(Instruction(prompt=text) for text in texts))
    took = time.perf_counter() - began
    peak = _peak_mb()
    sample = sorted(random.Random(2).sample(range(count), min(_SAMPLE, count)))
    dropped = {place for place in sample if verdicts[place] is not None}
    true = _doubled(texts, verdicts, sample)
    return {
        "texts": count,
        "letters_per_text": round(sum(map(len, texts)) / count, 1),
        "kept": verdicts.count(None),
        "seconds": round(took, 1),
        "us_per_text": round(1e6 * took / count, 1),
        "peak_mb_beyond_the_texts": round(peak - before),
        "sample": len(sample),
        "true_duplicates_in_sample": len(true),
        "recall": round(len(true & dropped) / max(1, len(true)), 4),
        "precision": round(len(true & dropped) / max(1, len(dropped)), 4),
    }


def _doubled(texts: list[str], verdicts: list[str | None], sample: list[int]) -> set[int]:
    """Those texts of the sample that are as similar to one kept before them as the threshold, by exact Jaccard.

    Only texts are compared that share one of the rarest n-grams of a text of the sample: those that share none of the
    fifth that is rarest cannot share the four fifths that it takes.
    """
    grams = {place: set(_grams(texts[place])) for place in sample}
    often = Counter(gram for own in grams.values() for gram in own)
    holders: dict[str, list[int]] = {}
    for place, own in grams.items():
        for gram in sorted(own, key=lambda gram: (often[gram], gram))[: len(own) - math.ceil(NEAR * len(own)) + 1]:
            holders.setdefault(gram, []).append(place)
    found: set[int] = set()
    for place, text in enumerate(texts):
        if verdicts[place] is None:
            own = set(_grams(text))
            for other in {other for gram in own & holders.keys() for other in holders[gram] if other > place}:
                if len(own & grams[other]) >= NEAR * len(own | grams[other]):
                    found.add(other)
    return found


def _grams(text: str, size: int = 5) -> Iterator[str]:
    smooth = smoothed(text)
    return (smooth[begin : begin + size] for begin in range(max(1, len(smooth) - size + 1)))


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)


def table(results: dict[str, Any]) -> str:
    """One Markdown row for each figure."""
    lines = ["| filter | figure | value |", "|---|---|---|"]
    for phase in ("novelty", "minhash"):
        for name, value in results[phase].items():
            shown = f"{value:,}" if isinstance(value, int) else str(value)
            lines.append(f"| {phase} | {name.replace('_', ' ')} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
