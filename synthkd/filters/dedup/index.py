"""The index of kept texts: the only place that knows which of them share a band with new ones, and compares them.

Band keys lie in a few sorted arrays, each many times the size of the next, and sketches in one flat array: 12 bytes a
band and 4 a hash, where dictionaries would take a hundred. Invariant: a text is kept unless one that was kept before it
and shares a band with it is as similar as the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from synthkd.filters.dedup.shingles import Sketches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkd.filters.dedup.shingles import Keys, Places

_GROWTH = 6
"""How many times larger each sorted array is than the next."""
_MEETINGS = 1 << 20
"""Pairs that are looked up at a time."""
_LETTERS = 1 << 21
"""Hashes that are compared at a time."""


class Index:
    """The kept texts, by number in the order in which they came."""

    def __init__(self, threshold: float) -> None:
        import numpy as np

        self._threshold = threshold - 1e-9
        self._levels: list[tuple[Keys, NDArray[np.int32]]] = []
        self._hashes = _Growing(np.uint32)
        self._begins = _Growing(np.int64)
        self._counts = _Growing(np.int64)
        self._limits = _Growing(np.uint64)

    def added(self, batch: Sketches, keys: Keys) -> list[bool]:
        """Take in those of a batch that are not near one kept before, also within the batch; whether each was kept."""
        import numpy as np

        dropped = np.zeros(len(keys), dtype=bool)
        kept = Sketches(self._hashes.seen, self._begins.seen, self._counts.seen, self._limits.seen)
        for texts, others in self._met(keys):
            fresh = ~dropped[texts]
            for near, _ in self._confirmed(batch, texts[fresh], kept, others[fresh]):
                dropped[near] = True
        texts, others = _met_within(keys, np.flatnonzero(~dropped))
        earlier: dict[int, list[int]] = {}
        for near, first in self._confirmed(batch, texts, batch, others):
            for text, other in zip(near.tolist(), first.tolist(), strict=True):
                earlier.setdefault(text, []).append(other)
        for text in sorted(earlier):
            dropped[text] = any(not dropped[other] for other in earlier[text])
        self._keep(batch, keys, np.flatnonzero(~dropped))
        return [not gone for gone in dropped.tolist()]

    def _met(self, keys: Keys) -> Iterator[tuple[Places, Places]]:
        """Pairs of a text of the batch and a kept one that share a band."""
        import numpy as np

        flat = keys.ravel()
        order = np.argsort(flat)
        asked = flat[order]
        for known, holders in self._levels:
            first = np.searchsorted(known, asked)
            hits = np.flatnonzero(known[np.minimum(first, len(known) - 1)] == asked)
            first = first[hits]
            counts = np.searchsorted(known, asked[hits], side="right") - first
            texts = order[hits] // keys.shape[1]
            for part in _portions(counts, _MEETINGS):
                others = holders[_ranges(first[part], counts[part])]
                yield _different(np.repeat(texts[part], counts[part]), others.astype(np.int64))

    def _confirmed(
        self, ours: Sketches, texts: Places, theirs: Sketches, others: Places
    ) -> Iterator[tuple[Places, Places]]:
        """Those pairs that are as similar as the threshold."""
        import numpy as np

        for part in _portions(ours.counts[texts] + theirs.counts[others], _LETTERS):
            a, b = texts[part], others[part]
            limits = np.minimum(ours.limits[a], theirs.limits[b])
            marked = np.concatenate([_marked(ours, a, limits), _marked(theirs, b, limits)])
            marked.sort()
            pairs = (marked >> np.uint64(32)).astype(np.int64)
            twice = pairs[1:][marked[1:] == marked[:-1]]
            both = np.bincount(twice, minlength=len(a))
            near = both >= self._threshold * (np.bincount(pairs, minlength=len(a)) - both)
            yield a[near], b[near]

    def _keep(self, batch: Sketches, keys: Keys, texts: Places) -> None:
        import numpy as np

        if not len(texts):
            return
        counts = batch.counts[texts]
        number, end = len(self._counts.seen), len(self._hashes.seen)
        self._hashes.extend(batch.hashes[_ranges(batch.begins[texts], counts)])
        self._begins.extend(end + np.cumsum(counts) - counts)
        self._counts.extend(counts)
        self._limits.extend(batch.limits[texts])
        holders = np.repeat(np.arange(number, number + len(texts), dtype=np.int32), keys.shape[1])
        self._levels.append((keys[texts].ravel(), holders))
        merged = 1
        while merged < len(self._levels) and len(self._levels[-merged - 1][0]) < _GROWTH * sum(
            len(known) for known, _ in self._levels[-merged:]
        ):
            merged += 1
        known = np.concatenate([level[0] for level in self._levels[-merged:]])
        holders = np.concatenate([level[1] for level in self._levels[-merged:]])
        order = np.argsort(known, kind="stable")
        self._levels[-merged:] = [(known[order], holders[order])]


def _met_within(keys: Keys, texts: Places) -> tuple[Places, Places]:
    """Pairs of a text and an earlier one, both of the batch, that share a band."""
    import numpy as np

    flat = keys[texts].ravel()
    order = np.argsort(flat, kind="stable")
    ordered, owners = flat[order], texts[order // keys.shape[1]]
    later, before = [], []
    for apart in range(1, len(flat)):
        same = np.flatnonzero(ordered[apart:] == ordered[:-apart])
        if not len(same):
            break
        later.append(owners[same + apart])
        before.append(owners[same])
    if not later:
        return texts[:0], texts[:0]
    return _different(np.concatenate(later), np.concatenate(before))


def _different(texts: Places, others: Places) -> tuple[Places, Places]:
    """Each pair once."""
    import numpy as np

    pairs = np.unique(texts << 32 | others)
    return pairs >> 32, pairs & (2**32 - 1)


def _marked(sketches: Sketches, texts: Places, limits: Keys) -> Keys:
    """The hashes of each text up to its limit, with the number of its pair in the upper half."""
    import numpy as np

    counts = sketches.counts[texts]
    hashes = sketches.hashes[_ranges(sketches.begins[texts], counts)].astype(np.uint64)
    pairs = np.repeat(np.arange(len(texts), dtype=np.uint64), counts)
    within = hashes <= np.repeat(limits, counts)
    marked: Keys = (pairs << np.uint64(32) | hashes)[within]
    return marked


def _ranges(begins: Places, counts: Places) -> Places:
    """The numbers from each begin on, as many as its count says, one range after the other."""
    import numpy as np

    ends = np.cumsum(counts)
    found: Places = np.repeat(begins - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
    return found


def _portions(sizes: Places, most: int) -> Iterator[slice]:
    """Slices of about equal size in sum, so that no array grows with the number of pairs."""
    import numpy as np

    if not len(sizes):
        return
    portion = np.cumsum(sizes) // most
    cuts = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(sizes)]
    for begin, end in pairwise(cuts):
        yield slice(begin, end)


class _Growing:
    """A flat array that grows at its end, by half of its size at a time."""

    def __init__(self, kind: Any) -> None:
        import numpy as np

        self._room: NDArray[Any] = np.empty(1024, dtype=kind)
        self._length = 0

    @property
    def seen(self) -> NDArray[Any]:
        """What was put into it; only until more is."""
        return self._room[: self._length]

    def extend(self, values: NDArray[Any]) -> None:
        """Put values at the end."""
        import numpy as np

        length = self._length + len(values)
        if length > len(self._room):
            room = np.empty(max(length, len(self._room) * 3 // 2), dtype=self._room.dtype)
            room[: self._length] = self._room[: self._length]
            self._room = room
        self._room[self._length : length] = values
        self._length = length
