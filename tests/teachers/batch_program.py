"""The program that the batch tests start and kill, in forks of a process that has imported everything once.

Each line of standard input is a JSON list: folder, URL, number of records, number of stages. For each a child process
runs the pipeline; standard output says `pid N`, then `done {...}` if it came to its end, then `ended STATUS`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import openai.resources  # noqa: F401 - imported here once, for all children

from synthkd import Instruction, Run
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher
from synthkd.teachers.batch import Batch


def main(folder: Path, url: str, records: int, stages: int) -> None:
    options = Batch(gather_seconds=0.05, poll_seconds=(0.01, 0.02))
    teacher = OpenAITeacher("m", base_url=url, batch=options)
    with Run(folder, teacher=teacher, quiet=True) as run:
        seeds = [Instruction(prompt=f"question {i}") for i in range(records)]
        several = run.map(Sample(2), seeds)
        single = run.map(Answer(), seeds if stages > 1 else [])
        texts = [list(row.completions) for row in several]
        done = {"several": texts, "single": [row.completion for row in single], "calls": run.counters.calls}
    print("done", json.dumps(done), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            folder, *rest = json.loads(line)
            main(Path(folder), *rest)
            os._exit(0)
        print("pid", child, flush=True)
        print("ended", os.waitpid(child, 0)[1], flush=True)
