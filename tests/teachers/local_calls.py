"""Calls to a local teacher, and what transformers alone gives: what its tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from tiny_models import make_tokenizer

from synthkd.message import Message
from synthkd.request import Completion, Request, Sampling
from synthkd.teachers.local import LocalTeacher

T = TypeVar("T")

TEXTS = tuple(f"Tom has {i} apples" + " and buys one more" * (i % 5) for i in range(24))


def ask(text: str, **sampling: Any) -> Request[str]:
    return Request((Message("user", text),), str, Sampling(**sampling))


def together(teacher: LocalTeacher, *calls: Coroutine[Any, Any, T]) -> list[T]:
    """Await the calls at the same time, then give the model back."""

    async def whole() -> list[T]:
        try:
            return list(await asyncio.gather(*calls))
        finally:
            await teacher.aclose()

    return asyncio.run(whole())


def one(teacher: LocalTeacher, request: Request[Any], n: int = 1) -> list[Completion]:
    return together(teacher, teacher.generate(request, n))[0]


@lru_cache
def greedy_with_transformers(folder: Path, texts: tuple[str, ...], most: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """What transformers gives for each text alone: text, finish reason, new tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    for text, limit in zip(texts, most, strict=True):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=limit, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
        finish = "stop" if out[-1] == tokenizer.eos_token_id else "length"
        found.append((tokenizer.decode(out, skip_special_tokens=True), finish, len(out)))
    torch.set_num_threads(threads)
    return found


def scores_with_transformers(folder: Path, text: str, completion: str) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer()
    prompt = tokenizer(f"<|user|>{text}<|end|><|assistant|>")["input_ids"]
    said = tokenizer(completion)["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt + said])).logits[0].log_softmax(-1)
    return [float(logits[len(prompt) - 1 + k, token]) for k, token in enumerate(said)]
