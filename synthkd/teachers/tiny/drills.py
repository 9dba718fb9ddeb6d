"""The only place for short texts that each teach the tiny teacher one thing, at a fifth of what a conversation costs.

Pure, like the corpus: the same generator state gives the same text.
"""

import json
import random

from synthkd.teachers.tiny.corpus import Problems, any_word, compared, other_than, rated, schema

__all__ = ["calculations", "comparisons", "copies", "verdicts"]


def calculations(rng: random.Random, stock: Problems) -> str:
    """Calculations without stories, some of which go on with the result before: teaches to reckon."""
    steps = [step for _ in range(5) for step in next(stock).steps]
    if rng.random() < 0.5:
        rng.shuffle(steps)
    return " ".join(f"{step}." for step in steps) + "<|end|>"


def verdicts(rng: random.Random, stock: Problems) -> tuple[str, str]:
    """Somebody's answer, half the time after its problem, and the verdict on it: teaches to compare."""
    problem = next(stock)
    answer, reason, score = rated(problem, rng)
    question = f"[Instruction]\n{problem.question}\n\n" if rng.random() < 0.5 else ""
    return f"{question}[Answer]\n{answer}<|end|><|assistant|>", f"{reason} Score: {score}.<|end|>"


def comparisons(rng: random.Random, stock: Problems) -> str:
    """Numbers side by side and whether they are the same, without anything else: teaches what a verdict ends with."""
    parts = []
    for right in (next(stock).answer for _ in range(8)):
        parts.append(compared(right if rng.random() < 0.5 else other_than(right, rng), right))
    return " ".join(parts) + "<|end|>"


def copies(rng: random.Random) -> str:
    """Schemas with keys never seen before, each with an object that follows it: teaches to copy keys."""
    parts = []
    for _ in range(3):
        pairs = [(any_word(rng), rng.choice(("", 0))) for _ in range(rng.randint(1, 3))]
        parts.append(schema(list(pairs), [""] * len(pairs)) + "<|end|><|assistant|>" + json.dumps(dict(pairs)))
    return "<|end|>".join(parts) + "<|end|>"
