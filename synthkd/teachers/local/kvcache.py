"""Keys and values of the rows being decoded: the only place that stores them.

Invariant: all rows end at the same place. A row of `k` tokens fills the last `k` of `length` places, so a row can join
or leave while the others go on. Buffers are written in place: transformers' own cache copies everything at every token,
which was 79 % of the time of a small model on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = 64
"""Places by which a full buffer grows at least."""


class _Buffer:
    """One layer's keys and values, `[rows, heads, places, head size]`, with room for more rows and places."""

    is_initialized = True

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None
        self.length = 0
        self.rows = 0

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append, and give everything that is stored: what transformers calls in each attention layer."""
        rows, end = keys.shape[0], self.length + keys.shape[-2]
        self.make_room(keys, values, rows, end)
        self.keys[:rows, :, self.length : end] = keys
        self.values[:rows, :, self.length : end] = values
        self.length, self.rows = end, rows
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def make_room(self, keys: Tensor, values: Tensor, rows: int, length: int, shift: int = 0) -> None:
        """See to it that so many rows and places fit; what is stored moves `shift` places to the right."""
        if self.keys is not None and self.keys.shape[0] >= rows and self.keys.shape[2] >= length and not shift:
            return
        stored = [(self.keys, keys), (self.values, values)]
        places = length + max(_SLACK, length // 4)
        grown = []
        for old, like in stored:
            height = max(rows, 0 if old is None else old.shape[0])
            new = like.new_empty((height, like.shape[1], places, like.shape[3]))
            if old is not None:
                new[: self.rows, :, :shift] = 0  # padding is masked, and must be finite for that
                new[: self.rows, :, shift : shift + self.length] = old[: self.rows, :, : self.length]
            grown.append(new)
        self.keys, self.values = grown

    def take(self, other: _Buffer, chosen: Tensor) -> None:
        """Add these rows of another buffer, aligned at the end; one row may be added several times."""
        length, end = max(self.length, other.length), self.rows + len(chosen)
        self.make_room(other.keys, other.values, end, length, length - self.length if self.rows else 0)
        rows, gap = slice(self.rows, end), length - other.length
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[rows, :, :gap] = 0
            mine[rows, :, gap:length] = theirs[chosen, :, : other.length]
        self.rows, self.length = end, length

    def keep(self, order: Sequence[int], unused: int) -> None:
        """Leave only these rows, in this order, and drop the first places, which none of them fills."""
        for place, row in enumerate(order):
            if place != row:
                self.keys[place], self.values[place] = self.keys[row], self.values[row]
        self.rows = len(order)
        if unused:
            for stored in (self.keys, self.values):
                stored[: self.rows, :, : self.length - unused] = stored[: self.rows, :, unused : self.length].clone()
            self.length -= unused


@lru_cache(maxsize=1)
def _layer() -> type[Any]:
    """`_Buffer` as the class of layer that transformers insists on."""
    from transformers.cache_utils import DynamicLayer

    return type("BufferLayer", (_Buffer, DynamicLayer), {})


class RowCache:
    """The cache of one batch. Models with sliding windows or recurrent states keep transformers' own: no rolling."""

    def __init__(self, config: Any) -> None:
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        self.inner = DynamicCache(config=config)
        self.rolling = all(type(layer) is DynamicLayer for layer in self.inner.layers)
        """Whether rows may join while others are under way."""
        if self.rolling:
            self.inner.layers = [_layer()() for _ in self.inner.layers]

    def take(self, other: RowCache, chosen: Tensor) -> None:
        """Add these rows of another cache; one that cannot roll must be empty."""
        if not self.rolling:
            self.inner = other.inner
            self.inner.reorder_cache(chosen)
            return
        for mine, theirs in zip(self.inner.layers, other.inner.layers, strict=True):
            mine.take(theirs, chosen)

    def keep(self, order: Sequence[int], unused: int) -> int:
        """Leave only these rows, and drop up to `unused` places at the beginning; gives how many were dropped."""
        if not self.rolling:
            import torch

            self.inner.reorder_cache(torch.tensor(order))
            return 0
        for layer in self.inner.layers:
            layer.keep(order, unused)
        return unused
