"""What a model on disk is: the only place that tells two versions of its weights apart.

Invariant: equal files give equal fingerprints wherever the folder lies and whatever it is called, and a model that was
trained again, in full or by a merged adapter, gets another one. Nothing here imports a heavy library.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from synthkd.errors import ConfigError

_WEIGHTS = (".safetensors", ".bin", ".pt")
_TOKENIZER = (".jinja", ".txt", ".model", ".tiktoken")
_SETTINGS = frozenset(
    (
        "adapter_config.json",
        "added_tokens.json",
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    )
)
_BLOCK = 4096
_BLOCKS = 1024
"""Blocks read of a large file: so many that a change to a tenth of it cannot slip through (0.9 ** 1024)."""


def fingerprint(folder: Path) -> str:
    """16 hex digits over names, sizes and content of weights, tokenizer and settings; large files are sampled.

    Args:
        folder: What `save_pretrained` has written. A 15 GB model takes about 4 MB of reading.
    """
    digest = blake2b(digest_size=8)
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in _WEIGHTS + _TOKENIZER or path.name in _SETTINGS):
            size = path.stat().st_size
            digest.update(b"%s %d\n" % (path.name.encode(), size))
            _sample(path, size, digest)
    return digest.hexdigest()


def _sample(path: Path, size: int, digest: blake2b) -> None:
    with path.open("rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
            return
        for block in range(_BLOCKS):  # from the first byte to the last, evenly
            file.seek((size - _BLOCK) * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))


def model_folder(path: str | os.PathLike[str]) -> Path | None:
    """The folder that a path names, or None where the text is an id on the Hugging Face Hub.

    Raises:
        ConfigError: it looks like a path and no model is there.
    """
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file():
        return folder
    text = str(path)
    if folder.exists():
        adapter = (
            " It holds an adapter alone: merge it into its base model."
            if (folder / "adapter_config.json").is_file()
            else ""
        )
        raise ConfigError(f"{text} has no config.json, so it is no transformers model.{adapter}")
    if text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise ConfigError(f"there is no folder {text}; expected a transformers model, or an id like Qwen/Qwen3-0.6B")
    return None


def model_type(folder: Path) -> str:
    """The architecture's name, such as `llama` or `qwen3`."""
    return str(_json(folder / "config.json").get("model_type", "model"))


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in a folder brings a chat template."""
    files = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    return any((folder / name).exists() for name in files) or bool(
        _json(folder / "tokenizer_config.json").get("chat_template")
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}. Download or save the model again.") from None
    return content if isinstance(content, dict) else {}
