"""Small random scoring models on disk: no network, a second or less each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Saves a random model: `save("bert", labels)` or `save("llama", labels)`; no labels make one that embeds."""
    made: dict[Any, Path] = {}

    def saved(kind: str, *labels: str, template: bool = True) -> Path:
        key = (kind, labels, template)
        if key not in made:
            made[key] = _save(tmp_path_factory.mktemp("scorers") / kind, kind, labels, template)
        return made[key]

    return saved


def _save(folder: Path, kind: str, labels: tuple[str, ...], template: bool) -> Path:
    import torch
    from tiny_models import TEMPLATE, make_tokenizer
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        LlamaConfig,
        LlamaForSequenceClassification,
        LlamaModel,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    names = (
        {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}} if labels else {}
    )
    shape: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        **names,
    }
    if kind == "bert":
        model = (BertForSequenceClassification if labels else BertModel)(BertConfig(**shape))
    else:
        config = LlamaConfig(**shape, num_key_value_heads=1, bos_token_id=None, eos_token_id=4)
        model = (LlamaForSequenceClassification if labels else LlamaModel)(config)
    model.save_pretrained(folder)
    make_tokenizer(TEMPLATE if template else None).save_pretrained(folder)
    return folder
