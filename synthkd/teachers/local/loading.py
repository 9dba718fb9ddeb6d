"""From a folder or the Hub into memory: the only place that loads a local model and its tokenizer.

Invariant: loading is silent, and leaves transformers' progress bars as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from synthkd.errors import ConfigError, MissingExtra, TeacherUnavailable


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be loaded, and how."""

    path: str
    """Folder, or id on the Hub."""
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    chat_template: str | None = None
    """In place of the tokenizer's."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to decode."""

    name: str
    model: Any
    tokenizer: Any
    settings: Any
    """Its `GenerationConfig`."""
    stops: frozenset[int]
    """Tokens that end a reply."""
    context: int
    """Places that it can tell apart."""
    cells: int
    """Rows times places whose keys and values fit into memory."""
    threads: int | None
    """How many of torch's threads it wants on the CPU; None leaves them as they are."""


def load(source: Source) -> Loaded:
    """The model of a source, in evaluation mode on its device.

    Raises:
        MissingExtra: torch or transformers is not installed.
        TeacherUnavailable: the files cannot be had or do not make a model.
        ConfigError: the tokenizer has no chat template.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers and torch", "train") from error
    device = source.device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Half precision is slow on most CPUs, and small models are often stored in it.
    dtype = source.dtype or ("float32" if device == "cpu" else "auto")
    options: dict[str, Any] = {"revision": source.revision, "local_files_only": os.path.isdir(source.path)}
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(source.path, **options)
            model = AutoModelForCausalLM.from_pretrained(source.path, dtype=dtype, **options).to(device).eval()
    except Exception as error:  # transformers raises what the file system, the Hub or the checkpoint gave it
        raise TeacherUnavailable(f"the model {source.path} could not be loaded: {error}") from error
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"the tokenizer of {source.path} has no chat template. Choose an instruction-tuned model, or pass "
            "chat_template= (Jinja text or a .jinja file) to LocalTeacher."
        )
    text, settings = model.config.get_text_config(), model.generation_config
    named = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    return Loaded(
        name=source.path,
        model=model,
        tokenizer=tokenizer,
        settings=settings,
        stops=frozenset(token for token in (*named, tokenizer.eos_token_id) if token is not None),
        context=int(getattr(text, "max_position_embeddings", None) or 1 << 30),
        cells=_memory(device) // _cell(text, model.dtype.itemsize),
        threads=cpu_threads(model) if device == "cpu" else None,
    )


_SMALL = 30_000_000
"""Parameters below which more threads cost more than they bring as soon as the machine has other work."""


def cpu_threads(model: Any) -> int | None:
    """How many of torch's threads a model is best run with on the CPU; None leaves them as they are.

    Half the cores for a small model, unless OMP_NUM_THREADS says otherwise. Its steps are so short that threads which
    wait for a busy core spoil them: with 2 million parameters on 2 cores with other work, 1 thread gave 1,844 tokens/s
    and 2 threads 293.
    """
    import torch

    small = sum(p.numel() for p in model.parameters()) < _SMALL
    if not small or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) // 2))


def _memory(device: str) -> int:
    """Bytes that keys and values may take: a good part of what is free now."""
    if device.startswith("cuda"):
        import torch

        return int(0.7 * torch.cuda.mem_get_info(device)[0])
    try:
        return max(1 << 30, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    except (ValueError, OSError, AttributeError):  # not every system can say
        return 2 << 30


def _cell(text: Any, itemsize: int) -> int:
    """Bytes of keys and values that one place of one row takes."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * size * itemsize)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars of transformers meanwhile."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
