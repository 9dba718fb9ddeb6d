"""Vectors: the only place that compares records by the embeddings of their texts, by cosine.

Invariant: each text is embedded once, in batches, in the order of the records; what stays in memory are vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError
from synthkd.filters.parts import Of, checked_of, in_batches, text_of
from synthkd.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkd.filters.rules import Filter

    Vectors = NDArray[np.float32]

Embed = Callable[[list[str]], Any]
"""From texts to an array of shape (texts, dimensions); its rows need no particular length."""


def embedding(embed: Embed, threshold: float = 0.95, *, of: Of = "all", batch: int = 256) -> Filter[Record]:
    """Drop each "embedding duplicate": a text whose embedding is near that of a kept one, by cosine.

    Records are judged in batches; the vectors of kept ones stay in memory, 4 bytes a dimension. Each text is compared
    with all kept ones, so the time grows with their number.

    Args:
        embed: What embeds a list of texts.
        threshold: From this cosine on; above 0, at most 1.
        of: Which text is embedded; see `Of`.
        batch: Texts embedded at a time.

    Raises:
        ConfigError: The arguments make no sense; while filtering, `embed` gives no array of (texts, dimensions).

    Reference: Abbas et al. 2023, SemDeDup, arXiv:2303.09540.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"embedding(threshold={threshold!r}): expected a cosine above 0 and at most 1, such as 0.95.")
    _checked(of, batch, "embedding")
    return _Embedding(embed, threshold, of, batch)


def k_center(embed: Embed, n: int, *, of: Of = "all", batch: int = 256) -> Filter[Record]:
    """Keep the `n` records that cover all others best: each next one is the farthest from those taken; first the first.

    The others are "not in the core set". It sees all records before it answers, and holds their vectors, 4 bytes a
    dimension; the time grows with `n` times the number of records.

    Args:
        embed: What embeds a list of texts.
        n: How many to keep, at least 1; all where there are no more.
        of: Which text is embedded; see `Of`.
        batch: Texts embedded at a time.

    Raises:
        ConfigError: As for `embedding`.

    Reference: Sener and Savarese 2017, Active Learning for Convolutional Neural Networks: A Core-Set Approach,
        arXiv:1708.00489.
    """
    if n < 1:
        raise ConfigError(f"k_center(n={n!r}): expected at least 1 record to keep.")
    _checked(of, batch, "k_center")
    return _KCenter(embed, n, of, batch)


@dataclass(frozen=True)
class _Embedding:
    embed: Embed
    threshold: float
    of: Of
    batch: int

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        import numpy as np

        known: Vectors | None = None
        count = 0
        texts = (text_of(record, self.of, "embedding") for record in records)
        for found in unit_vectors(self.embed, texts, self.batch, "embedding"):
            if known is None:
                known = np.empty((1024, found.shape[1]), dtype=np.float32)
            same = found @ found.T >= self.threshold - 1e-6
            dropped: NDArray[np.bool_] = np.any(found @ known[:count].T >= self.threshold - 1e-6, axis=1)
            for place in range(len(found)):
                dropped[place] |= np.any(same[place, :place] & ~dropped[:place])
            fresh = found[~dropped]
            if count + len(fresh) > len(known):
                room = np.empty((max(count + len(fresh), 2 * len(known)), found.shape[1]), dtype=np.float32)
                room[:count] = known[:count]
                known = room
            known[count : count + len(fresh)] = fresh
            count += len(fresh)
            yield from ("embedding duplicate" if gone else None for gone in dropped.tolist())


@dataclass(frozen=True)
class _KCenter:
    embed: Embed
    n: int
    of: Of
    batch: int

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        import numpy as np

        texts = (text_of(record, self.of, "k_center") for record in records)
        parts = list(unit_vectors(self.embed, texts, self.batch, "k_center"))
        if not parts:
            return
        vectors = np.concatenate(parts)
        parts.clear()
        taken = np.zeros(len(vectors), dtype=bool)
        nearest = np.full(len(vectors), np.inf, dtype=np.float32)
        center = 0
        for _ in range(min(self.n, len(vectors))):
            taken[center] = True
            np.minimum(nearest, 1 - vectors @ vectors[center], out=nearest)
            nearest[taken] = -np.inf
            center = int(nearest.argmax())
        yield from (None if kept else "not in the core set" for kept in taken.tolist())


def unit_vectors(embed: Embed, texts: Iterable[str], batch: int, who: str) -> Iterator[Vectors]:
    """Vectors of length 1, a batch at a time; one that was zero stays so, and is near none.

    Raises:
        ConfigError: `embed` gives `who` no array of (texts, dimensions), or numbers that are not finite.
    """
    import numpy as np

    width = None
    for some in in_batches(texts, batch):
        found = np.asarray(embed(some), dtype=np.float32)
        if found.ndim != 2 or len(found) != len(some) or found.shape[1] != (width or found.shape[1]):
            raise ConfigError(
                f"embed() gave {who}() an array of shape {found.shape} for {len(some)} texts; expected "
                f"({len(some)}, {width or 'dimensions'})."
            )
        if not np.isfinite(found).all():
            raise ConfigError(f"embed() gave {who}() numbers that are not finite; expected none such as nan.")
        width = found.shape[1]
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        unit: Vectors = found / lengths
        yield unit


def _checked(of: Of, batch: int, who: str) -> None:
    checked_of(of, who)
    if batch < 1:
        raise ConfigError(f"{who}(batch={batch!r}): expected at least 1 text at a time.")
