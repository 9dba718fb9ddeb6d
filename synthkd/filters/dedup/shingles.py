"""Shingles: the only place where texts become sets of hashed n-grams, signatures and sketches of them.

Everything here works on a batch of texts as flat arrays: the hashes of all texts one after the other, and where each
text begins. Invariant: the same text gives the same numbers in every process and in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from synthkd.filters.words import words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint32]
    Places = NDArray[np.int64]
    Keys = NDArray[np.uint64]

Unit = Literal["characters", "words"]
_SEED = 20221210
_STEP = 0x9E3779B97F4A7C15
_STIR = 0xBF58476D1CE4E5B9
_PAD = "\0"


def shingled(texts: Sequence[str], ngram: int, unit: Unit) -> tuple[Hashes, Places]:
    """Hashes of all n-grams of each text, with repeats, and where each text's begin; a shorter text is one n-gram."""
    import numpy as np

    if unit == "characters":
        padded = [text if len(text) >= ngram else text.ljust(ngram, _PAD) for text in texts]
        letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    else:
        cut = [found + [_PAD] * (ngram - len(found)) for found in map(words, texts)]
        letters = np.fromiter((crc32(word.encode(errors="surrogatepass")) for t in cut for word in t), dtype=np.uint32)
        lengths = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
    wide = letters.astype(np.uint64)
    rolled = np.zeros(len(wide) - ngram + 1, dtype=np.uint64)
    for offset in range(ngram):
        rolled *= np.uint64(_STEP)
        rolled += wide[offset : len(wide) - ngram + 1 + offset]
    rolled ^= rolled >> np.uint64(31)
    rolled *= np.uint64(_STIR)
    rolled ^= rolled >> np.uint64(29)
    hashes = (rolled >> np.uint64(32)).astype(np.uint32)
    within = np.ones(len(hashes), dtype=bool)
    ends = np.cumsum(lengths)[:-1]
    for back in range(1, ngram):  # n-grams that reach over the end of a text
        within[ends - back] = False
    counts = lengths - ngram + 1
    return hashes[within], np.cumsum(counts) - counts


def signatures(hashes: Hashes, begins: Places, permutations: int) -> Hashes:
    """The least hash of each text under each permutation, one row a permutation.

    Reference: Broder 1997, On the resemblance and containment of documents.
    """
    import numpy as np

    random = np.random.Generator(np.random.PCG64(_SEED))
    factors = random.integers(0, 2**32, permutations, dtype=np.uint32) | np.uint32(1)
    shifts = random.integers(0, 2**32, permutations, dtype=np.uint32)
    found = np.empty((permutations, len(begins)), dtype=np.uint32)
    permuted = np.empty_like(hashes)
    for row in range(permutations):
        np.multiply(hashes, factors[row], out=permuted)
        np.add(permuted, shifts[row], out=permuted)
        np.minimum.reduceat(permuted, begins, out=found[row])
    return found


def bands_of(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many rows find a pair at the threshold with a chance of 0.99, and others seldom."""
    for rows in range(permutations, 1, -1):
        if 1 - (1 - threshold**rows) ** (permutations // rows) >= 0.99:
            return permutations // rows, rows
    return permutations, 1


def band_keys(signature: Hashes, bands: int, rows: int) -> Keys:
    """One number for each band of each text, one row a text; texts that agree in a band have its number in common."""
    import numpy as np

    keys = np.empty((signature.shape[1], bands), dtype=np.uint64)
    for band in range(bands):
        key = np.full(signature.shape[1], band + 1, dtype=np.uint64)
        for row in signature[band * rows : (band + 1) * rows]:
            key ^= row
            key *= np.uint64(_STEP)
            key ^= key >> np.uint64(29)
        keys[:, band] = key
    return keys


@dataclass(frozen=True)
class Sketches:
    """Of each text the least of its different hashes, in order; all of them, if they are no more than was asked for."""

    hashes: Hashes
    begins: Places
    counts: Places
    limits: Keys
    """Up to which hash a sketch says everything about its text."""

    def of(self, text: int) -> Hashes:
        """The hashes of one text."""
        return self.hashes[self.begins[text] : self.begins[text] + self.counts[text]]


def sketched(hashes: Hashes, begins: Places, size: int) -> Sketches:
    """The sketches of a batch, each of at most `size` hashes.

    Reference: Bar-Yossef et al. 2002, Counting Distinct Elements in a Data Stream (the k minimum values).
    """
    import numpy as np

    texts = np.repeat(np.arange(len(begins), dtype=np.uint64), np.diff(np.append(begins, len(hashes))))
    marked = np.sort(texts << np.uint64(32) | hashes)
    marked = marked[np.append(True, marked[1:] != marked[:-1])]
    texts = (marked >> np.uint64(32)).astype(np.int64)
    counts = np.bincount(texts, minlength=len(begins))
    rank = np.arange(len(marked)) - (np.cumsum(counts) - counts)[texts]
    least = marked[rank < size].astype(np.uint32)
    kept = np.minimum(counts, size)
    firsts = np.cumsum(kept) - kept
    limits = np.full(len(begins), 2**32, dtype=np.uint64)
    cut = counts > size
    limits[cut] = least[firsts[cut] + size - 1]
    return Sketches(least, firsts, kept, limits)
