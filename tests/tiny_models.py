"""Small random models on disk: the only place that makes models for tests. No network, a second or less each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
SPECIAL = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEXT = [
    "Tom has 3 apples and buys 4 more. How many apples does he have now?",
    "He has 3 + 4 = 7 apples. The answer is 7.",
    "What is the capital of France? Paris. Say hello to the world, please.",
]


def make_tokenizer(template: str | None = TEMPLATE) -> Any:
    """A byte-level tokenizer of 320 tokens with a chat template that ends each turn with `<|end|>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[-1])
    fast.chat_template = template
    return fast


def make_model(seed: int = 0, **changes: Any) -> Any:
    """A random Llama with heads of 64, as vLLM wants them too."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 4,
        "pad_token_id": 0,
        **changes,
    }
    return LlamaForCausalLM(LlamaConfig(**options)).eval()


def save_model(folder: Path, seed: int = 0, template: str | None = TEMPLATE, **changes: Any) -> Path:
    """A random model and its tokenizer in a folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    make_model(seed, **changes).save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)
    return folder
