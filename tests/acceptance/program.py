"""The program that acceptance tests start, kill and interrupt: python program.py FOLDER URL RECORDS WIDTH.

Two stages: two answers to each instruction in one call, then a typed verdict on each of them. It prints its process's
share of the work as JSON in the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synthkd import Instruction, Run
from synthkd.strategies import Rank, Sample
from synthkd.teachers import OpenAITeacher


def main(folder: Path, url: str, records: int, width: int) -> None:
    teacher = OpenAITeacher("m", base_url=url, max_in_flight=width)
    with Run(folder, teacher=teacher, records_in_flight=width) as run:
        answers = run.map(Sample(2), (Instruction(prompt=f"question {i}") for i in range(records)))
        pairs = run.map(Rank(), answers)
        done = {"calls": run.counters.calls, "replayed": run.counters.replayed, "pairs": len(pairs)}
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
