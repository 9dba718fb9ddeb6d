"""The only place that makes the base student that ships beside the tiny teacher, for short demonstrations.

``python -m synthkd.teachers.tiny.student --tokenizer TEACHER --out DIR``. It reads what a pretraining would hold: the
stories of the domain without their solutions, and calculations without stories. It has never seen a conversation and
solves nothing.
"""

import argparse
import random
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
    stories = ["".join(next(stock).question + "<|end|>" for _ in range(3)) for _ in range(768)]
    return [(ids, 1) for ids in tokenizer(stories)["input_ids"]] + calculating(rng, tokenizer, 1280)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the base student on plain text of the tiny teacher's domain.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the teacher's folder, whose tokenizer it shares")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the model")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long to train")
    parser.add_argument("--threads", type=int, default=2, help="how many cores to use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=128, help="hidden size, a multiple of 64")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16; measure whether it is faster here")
    options = parser.parse_args()
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(options.threads)
    names = ("minutes", "seed", "width", "layers", "bf16")
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    train(Plan(**{name: getattr(options, name) for name in names}), options.out, tokenizer, reading)


if __name__ == "__main__":
    main()
