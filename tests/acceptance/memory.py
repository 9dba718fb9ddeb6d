"""The program whose memory is measured: python memory.py FOLDER URL RECORDS. It prints its peak in KiB."""

from __future__ import annotations

import resource
import sys

from synthkd import Instruction, Run
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher


def main(folder: str, url: str, records: int) -> None:
    with Run(folder, teacher=OpenAITeacher("m", base_url=url), quiet=True) as run:
        first = run.map(Sample(2), (Instruction(prompt=f"question {i}") for i in range(records)))
        second = run.map(Answer(), (Instruction(prompt=row.completions[0]) for row in first))
        assert (len(first), len(second)) == (records, records)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
