"""Label math questions: a teacher reasons and answers, and only answers that match the gold survive.

Takes seeds in the shape of GSM8K (`question`, `answer`, whose last line is `#### N`) and any teacher. The student
learns the steps with the answer behind them; with `-p reasoning=column` they stay a column of their own, and a student
trained on that learns bare answers.

    synthkd run pipelines/label_math.py --seeds gsm8k_train.jsonl --teacher openai:gpt-4.1-mini
    synthkd run pipelines/label_math.py --seeds gsm8k_train.jsonl --teacher tiny --limit 500

Reference: Hsieh et al. 2023, Distilling Step-by-Step, arXiv:2305.02301; rejection sampling as in Yuan et al. 2023,
    arXiv:2308.01825.
"""

from pathlib import Path
from typing import Literal

from synthkd import Instruction, Run, Sampling, data
from synthkd.filters import verify
from synthkd.strategies import Rationale

ROLES = {"teacher": "tiny"}


class Problem(Instruction):
    """A question with the gold answer, which no template here uses and no student sees."""

    answer: str


def pipeline(
    run: Run,
    seeds: Path,
    limit: int | None = None,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    reasoning: Literal["inline", "think", "column"] = "inline",
) -> None:
    """Ask for a rationale, keep what agrees with the gold answer, save it with TRL's columns.

    Args:
        seeds: rows with `question` and `answer` (JSONL, JSON, CSV, Parquet, or a dataset's id).
        limit: use only the first so many.
        temperature: of the teacher's answers.
        max_tokens: upper limit of one reply.
        reasoning: where the steps go: before the answer, between `<think>` tags, or into a column.
    """
    problems = data.read(seeds, Problem, fields={"prompt": "question"}, limit=limit)
    answers = run.map(Rationale(sampling=Sampling(temperature=temperature, max_tokens=max_tokens)), problems)
    right = run.filter(verify(gold="answer"), answers)
    if len(right):
        run.save(right, reasoning=reasoning)
