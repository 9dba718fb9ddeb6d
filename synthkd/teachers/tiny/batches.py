"""The only place that turns conversations and calculations into batches of tokens to learn from."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthkd.teachers.tiny.corpus import Conversation, converse, solved
from synthkd.teachers.tiny.drills import calculations, comparisons, copies, verdicts
from synthkd.teachers.tiny.problems import problems

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "Batch",
    "Draw",
    "Row",
    "batches",
    "calculating",
    "comparing",
    "copying",
    "encode",
    "reviewing",
    "teaching",
    "telling",
    "weighing",
]

Row = tuple[list[int], int]
"""Token ids, and where the answer to learn begins."""

Draw = Callable[[random.Random, "PreTrainedTokenizerFast", float], list[Row]]
"""Gives some thousand rows to learn from at a share of the time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of like length, padded on the right."""

    ids: "torch.Tensor"
    """(rows, tokens)"""
    labels: "torch.Tensor"
    """(rows, tokens): the next token where it is to be learned, else -100."""


def encode(talks: list[Conversation], tokenizer: "PreTrainedTokenizerFast") -> list[Row]:
    """The rows of conversations: what stands before the last answer, and the answer."""
    before = ["".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in talk[:-1]) + "<|assistant|>" for talk in talks]
    heads = tokenizer(before)["input_ids"]
    tails = tokenizer([talk[-1]["content"] + "<|end|>" for talk in talks])["input_ids"]
    return [(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]


def teaching(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", done: float) -> list[Row]:
    """Rows of new conversations and of drills, which teach one thing each at a fifth of the cost.

    Early on, while the share ``done`` of the time is small, most are calculations and plain solving.
    """
    stock = problems(rng)
    bare, plain = max(0.05, 0.5 - 1.2 * done), max(0.0, 0.8 - 2 * done)
    rows = calculating(rng, tokenizer, int(4096 * bare)) + telling(rng, tokenizer, 384)
    rows += weighing(rng, tokenizer, 640) + copying(rng, tokenizer, 256) + comparing(rng, tokenizer, 192)
    talks = [(solved if rng.random() < plain else converse)(rng, stock) for _ in range(4096 - len(rows))]
    return rows + encode(talks, tokenizer)


def calculating(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", n: int) -> list[Row]:
    """Rows of bare calculations, every token of them to be learned."""
    stock = problems(rng)
    texts = [calculations(rng, stock) for _ in range(n)]
    return [(ids, 1) for ids in tokenizer(texts)["input_ids"]] if texts else []


def telling(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", n: int) -> list[Row]:
    """Rows of three stories each without their solutions, every token of them to be learned."""
    stock = problems(rng)
    texts = ["".join(f"{next(stock).question}<|end|>" for _ in range(3)) for _ in range(n)]
    return [(ids, 1) for ids in tokenizer(texts)["input_ids"]]


def weighing(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", n: int) -> list[Row]:
    """Rows of an answer and the verdict on it; the verdict is to be learned."""
    stock = problems(rng)
    pairs = [verdicts(rng, stock) for _ in range(n)]
    heads, tails = (tokenizer([pair[part] for pair in pairs])["input_ids"] for part in (0, 1))
    return [(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]


def comparing(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", n: int) -> list[Row]:
    """Rows of bare comparisons, every token of them to be learned."""
    stock = problems(rng)
    return [(ids, 1) for ids in tokenizer([comparisons(rng, stock) for _ in range(n)])["input_ids"]]


def copying(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", n: int) -> list[Row]:
    """Rows of schemas and objects with the same keys, every token of them to be learned."""
    return [(ids, 1) for ids in tokenizer([copies(rng) for _ in range(n)])["input_ids"]]


def reviewing(rng: random.Random, tokenizer: "PreTrainedTokenizerFast", done: float) -> list[Row]:
    """Rows as ``teaching`` gives them late, whatever the time: for a model that has learned before."""
    del done
    return teaching(rng, tokenizer, 1.0)


def batches(
    draw: Draw, tokenizer: "PreTrainedTokenizerFast", tokens: int, seed: str, done: Callable[[], float]
) -> Iterator[Batch]:
    """Batches of at most ``tokens`` tokens from what ``draw`` gives, without end; ``done()`` is how far in time."""
    import torch

    rng = random.Random(seed)
    while True:
        rows = draw(rng, tokenizer, done())
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            inputs = torch.full((len(group), longest), tokenizer.pad_token_id or 0)
            labels = torch.full((len(group), longest), -100)
            for at, (ids, start) in enumerate(group):
                inputs[at, : len(ids)] = torch.tensor(ids)
                labels[at, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
            yield Batch(inputs, labels)
