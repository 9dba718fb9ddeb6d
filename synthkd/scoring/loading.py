"""Loading: the only place that gets a scoring model of transformers into memory, when it is first used.

Invariant: making a scorer reads nothing and imports neither torch nor transformers; threads may share one.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import Any

from synthkd.errors import ConfigError, MissingExtra
from synthkd.teachers.local.loading import quiet_loading

_LONGEST = 1_000_000
"""A tokenizer that knows no limit has a far greater one than this."""


class LocalModel:
    """A model that is loaded when it is first used.

    Args:
        model: a folder written by `save_pretrained`, or an id on the Hugging Face Hub.
        device: `cpu`, `cuda`, `cuda:1`; by default the GPU if there is one.
        dtype: `float32`, `bfloat16`, ...; by default float32 on the CPU and what the weights are stored in on a GPU.
        batch_size: texts that the model reads at a time.
        revision: branch, tag or commit of a model on the Hub.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 32,
        revision: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"{type(self).__name__}(batch_size={batch_size}): expected at least 1 text at a time")
        self.name = str(model)
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size
        self._revision = revision
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _pair(self, kind: str) -> tuple[Any, Any]:
        """Model, in evaluation mode on its device, and tokenizer.

        Args:
            kind: the class of transformers that loads the model.

        Raises:
            MissingExtra: torch or transformers is not installed.
            ConfigError: the model cannot be loaded.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtra("transformers and torch", "train") from error
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = self._dtype or ("float32" if device == "cpu" else "auto")
        options: dict[str, Any] = {"revision": self._revision, "local_files_only": os.path.isdir(self.name)}
        try:
            with quiet_loading():
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.name, **options)
                loaded = getattr(transformers, kind).from_pretrained(self.name, dtype=dtype, **options)
        except Exception as error:  # transformers raises what the file system, the Hub or the checkpoint gave it
            raise ConfigError(
                f"{self!r}: the model could not be loaded: {error}. Give a folder written by save_pretrained, or an id "
                "on the Hugging Face Hub."
            ) from error
        if tokenizer.pad_token is None:  # texts of a batch are filled up to one length
            tokenizer.pad_token = tokenizer.eos_token
        if loaded.config.get_text_config().pad_token_id is None:
            loaded.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        return loaded.to(device).eval(), tokenizer


def limit_of(model: Any, tokenizer: Any) -> int:
    """Tokens of the longest text that a model reads."""
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 512
    return int(tokenizer.model_max_length if tokenizer.model_max_length < _LONGEST else places)


class Pipeline(LocalModel):
    """A model that classifies texts, as a pipeline of transformers."""

    _function: str | None = None
    """What is done with the model's numbers; None is what its configuration says."""

    @cached_property
    def _pipeline(self) -> Any:
        model, tokenizer = self._pair("AutoModelForSequenceClassification")
        from transformers import TextClassificationPipeline

        return TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)

    def _scores(self, inputs: list[str] | list[dict[str, str]], **options: Any) -> list[dict[str, float]]:
        """The value of each label, for each input; what is too long is cut at its end."""
        if not inputs:
            return []
        with self._lock:
            pipeline = self._pipeline
            found = pipeline(
                [text or pipeline.tokenizer.pad_token for text in inputs],  # not every model reads no token at all
                batch_size=self._batch_size,
                top_k=None,
                function_to_apply=self._function,
                truncation=True,
                max_length=limit_of(pipeline.model, pipeline.tokenizer),
                **options,
            )
        return [{one["label"]: one["score"] for one in labels} for labels in found]

    def _labels(self) -> tuple[str, ...]:
        """The names of the classes, in the model's order."""
        with self._lock:
            return tuple(self._pipeline.model.config.id2label.values())
