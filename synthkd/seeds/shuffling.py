"""Shuffling without a list: the only place that puts the numbers below a size in random order."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from random import Random

_SMALL = 4096
_ROUNDS = 4


def shuffled(size: int, seed: str) -> Iterator[int]:
    """Every number from 0 to below `size` once, in an order that the seed decides.

    Beyond a few thousand it is a Feistel network over the next power of four, so that 10^9 numbers take no memory; of
    what it gives, numbers past the size are left out.
    """
    if size <= _SMALL:
        yield from Random(seed).sample(range(size), size)
        return
    half = ((size - 1).bit_length() + 1) // 2
    mask, key = (1 << half) - 1, blake2b(seed.encode("utf-8", "surrogatepass")).digest()
    place = 0
    while place >> (2 * half) == 0:
        left, right = place >> half, place & mask
        for number in range(_ROUNDS):
            digest = blake2b(b"%d:%d" % (number, right), key=key, digest_size=32).digest()
            left, right = right, left ^ (int.from_bytes(digest) & mask)
        if (value := left << half | right) < size:
            yield value
        place += 1
