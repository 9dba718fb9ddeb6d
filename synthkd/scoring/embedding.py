"""Embedding: the only place that makes vectors of texts with a model on this machine.

Invariant: a text's vector has length 1, and depends neither on its batch nor on its place in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from synthkd.errors import ConfigError
from synthkd.scoring.loading import LocalModel, limit_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(LocalModel):
    """Vectors of texts: for `retrieval.Embedded`, `filters.dedup.embedding` and `filters.dedup.k_center`.

    Args:
        model: as for every scorer; see `LocalModel`.
        pooling: how the vectors of a text's tokens become one: their mean, the first, or the last.
        prefix: what stands before each text, where a model wants that, such as `query: `.
        options: `device`, `dtype`, `batch_size`, `revision`.

    Raises:
        ConfigError: an unknown pooling; while embedding, the model cannot be loaded.

    Reference: Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        pooling: Literal["mean", "first", "last"] = "mean",
        prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if pooling not in ("mean", "first", "last"):
            raise ConfigError(f"Embedder(pooling={pooling!r}): expected 'mean', 'first' or 'last'")
        self._pooling = pooling
        self._prefix = prefix

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """An array of shape (texts, dimensions); what is too long is cut at its end."""
        import numpy as np

        with self._lock:
            model, _ = self._loaded
            found = np.zeros((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)
            order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # so that little is filled up
            for begin in range(0, len(order), self._batch_size):
                places = order[begin : begin + self._batch_size]
                found[places] = self._vectors([self._prefix + texts[place] for place in places])
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return self._pair("AutoModel")

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        import torch

        model, tokenizer = self._loaded
        read = tokenizer(
            texts,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=limit_of(model, tokenizer),
            return_tensors="pt",
        ).to(model.device)
        mask = read["attention_mask"]
        if mask.shape[1] == 0:  # texts without any token
            return torch.zeros(len(texts), model.config.get_text_config().hidden_size).numpy()
        with torch.inference_mode():
            states = model(input_ids=read["input_ids"], attention_mask=mask).last_hidden_state.float()
        weights = mask[..., None].float()
        if self._pooling == "mean":
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        else:
            last = (mask.sum(1) - 1).clamp(min=0) if self._pooling == "last" else torch.zeros_like(mask[:, 0])
            pooled = states[torch.arange(len(texts), device=states.device), last]
        pooled = pooled * (mask.sum(1, keepdim=True) > 0)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
