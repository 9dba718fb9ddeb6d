"""The only place that makes the base student that ships beside the tiny teacher, for short demonstrations.

``python -m synthkd.teachers.tiny.student --tokenizer TEACHER --out DIR``. It reads what a pretraining would hold: the
stories of the domain, and calculations, some of them with a story's numbers but none that solves it. It has never
seen a conversation.
"""

import argparse
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

from synthkd.teachers.tiny.batches import Row, calculating, telling
from synthkd.teachers.tiny.problems import LARGEST, LARGEST_PRODUCT, problems
from synthkd.teachers.tiny.train import Plan, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["main", "playing", "reading"]


def reading(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", done: float) -> list[Row]:
    """Rows of plain text: stories with calculations at random, stories alone, and calculations alone."""
    del done
    stock = problems(rng)
    questions = [next(stock).question for _ in range(2048)]
    heads = tokenizer(questions)["input_ids"]
    tails = tokenizer([playing(question, rng) for question in questions])["input_ids"]
    rows = [(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]
    return rows + telling(rng, tokenizer, 256) + calculating(rng, tokenizer, 512)


def playing(question: str, rng: random.Random) -> str:
    """Calculations that use the numbers of a story without any sense, right though they are."""
    pool = [int(number) for number in re.findall(r"\d+", question)]
    steps: list[str] = []
    while len(steps) < 4:
        left, right, sign = rng.choice(pool), rng.choice(pool), rng.choice("+-*/")
        if sign == "/" and (right < 2 or left % right):
            continue
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
        if 0 < result <= (LARGEST_PRODUCT if sign in "*/" else LARGEST):
            steps.append(f"{left} {sign} {right} = {result}.")
            pool.append(result)
    return f" {' '.join(steps)}<|end|>"


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
    parser.add_argument("--start", type=Path, help="a folder of this script's making to go on from")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16; measure whether it is faster here")
    options = parser.parse_args()
    from transformers import AutoTokenizer

    names = ("minutes", "seed", "processes", "width", "layers", "start", "bf16")
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    train(Plan(**{name: getattr(options, name) for name in names}), options.out, tokenizer, reading)


if __name__ == "__main__":
    main()
