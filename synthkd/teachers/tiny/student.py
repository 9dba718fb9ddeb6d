"""The only place that makes the base student that ships beside the tiny teacher, for short demonstrations.

``python -m synthkd.teachers.tiny.student --tokenizer TEACHER --out DIR``. It reads what a pretraining would hold: the
stories of the domain without their solutions, lists of the numbers in them, and calculations without stories. It has
never seen a conversation and solves nothing.
"""

import argparse
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

from synthkd.teachers.tiny.problems import problems
from synthkd.teachers.tiny.train import Plan, Row, calculating, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["main", "reading"]


def reading(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", done: float) -> list[Row]:
    """Rows of plain text, stories and calculations apart; every token is to be learned."""
    del done
    stock = problems(rng)
    texts = ["".join(_told(next(stock).question, rng) + "<|end|>" for _ in range(3)) for _ in range(1024)]
    return [(ids, 1) for ids in tokenizer(texts)["input_ids"]] + calculating(rng, tokenizer, 1024)


def _told(question: str, rng: random.Random) -> str:
    """A story, mostly with a line that repeats its numbers."""
    numbers = re.findall(r"\d+", question)
    return f"{question} The numbers are {' and '.join(numbers)}." if rng.random() < 0.8 else question


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the base student on plain text of the tiny teacher's domain.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the teacher's folder, whose tokenizer it shares")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the model")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long to train")
    parser.add_argument("--processes", type=int, default=2, help="how many share the work, best one for each core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=128, help="hidden size, a multiple of 64")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16; measure whether it is faster here")
    options = parser.parse_args()
    from transformers import AutoTokenizer

    names = ("minutes", "seed", "processes", "width", "layers", "bf16")
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    train(Plan(**{name: getattr(options, name) for name in names}), options.out, tokenizer, reading)


if __name__ == "__main__":
    main()
