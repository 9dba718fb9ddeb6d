"""MinHash: the only place that finds near duplicates among many texts by n-grams in common; signatures by rensa.

Texts that agree in a band of their signatures are compared by their sketches, so that a chance agreement drops nothing.
Invariant: the first of near duplicates is kept, and each record gets its verdict before the next one is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters.parts import Of, checked_of, text_of
from synthkd.filters.words import smoothed, words
from synthkd.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkd.filters.rules import Filter

    Sketch = NDArray[np.uint32]

Unit = Literal["characters", "words"]
_SEED = 20221210
_STIR = 0xBF58476D1CE4E5B9
_MOST = 2**32 - 1


def minhash(
    threshold: float = 0.8,
    *,
    ngram: int = 5,
    unit: Unit = "characters",
    permutations: int = 128,
    of: Of = "all",
) -> Filter[Record]:
    """Drop each "near duplicate": a text whose n-grams agree with those of a kept one, by Jaccard similarity.

    Letter case and white space do not count. Texts of up to 256 different n-grams (twice `permutations`) are compared
    exactly, longer ones by an estimate with a standard error of about 0.025. A pair at the threshold is looked at with
    a chance of 0.99, a more similar one nearly always. Records stream; of each kept text its n-grams and bands stay in
    memory as numbers, about 3 kilobytes at most. Many texts that share most of a template, and yet stay below the
    threshold, are all compared with each other: give `of` the part that differs.

    Args:
        threshold: From this share of common n-grams on; above 0, at most 1.
        ngram: Characters, or words, in an n-gram.
        unit: `characters` suits short texts and every script, `words` long ones.
        permutations: Hashes in a signature; more find pairs more surely and estimate better, and cost time and memory.
        of: Which text is compared; see `Of`.

    Raises:
        MissingExtra: rensa is not installed.
        ConfigError: An argument makes no sense; while filtering, a record that has no such text.

    Reference: Broder 1997, On the resemblance and containment of documents; Lee et al. 2021, Deduplicating Training
        Data Makes Language Models Better, arXiv:2107.06499; Bar-Yossef et al. 2002, Counting Distinct Elements in a
        Data Stream (the k minimum values).
    """
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"minhash(threshold={threshold!r}): expected a similarity above 0 and at most 1, such as 0.8."
        )
    if ngram < 1 or not 1 <= permutations <= 4096:
        raise ConfigError(
            f"minhash(ngram={ngram!r}, permutations={permutations!r}): expected at least 1, and of permutations at "
            "most 4096; 5 and 128 are usual."
        )
    if unit not in ("characters", "words"):
        raise ConfigError(f"minhash(unit={unit!r}): expected 'characters' or 'words'.")
    checked_of(of, "minhash")
    _rensa()
    return _MinHash(threshold, ngram, unit, permutations, of)


@dataclass(frozen=True)
class _MinHash:
    threshold: float
    ngram: int
    unit: Unit
    permutations: int
    of: Of

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        rensa = _rensa()
        bands, rows = bands_of(self.threshold, self.permutations)
        index = rensa.RMinHashLSH(self.threshold, bands * rows, bands)
        kept: list[Sketch] = []
        for record in records:
            grams = self._grams(smoothed(text_of(record, self.of, "minhash")))
            signature = rensa.RMinHash(bands * rows, _SEED)
            signature.update(grams)
            [hashes] = rensa.RMinHash.hash_token_sets([grams])
            sketch = _sketch(hashes, 2 * self.permutations)
            if any(self._near(sketch, kept[number]) for number in index.query(signature)):
                yield "near duplicate"
                continue
            index.insert(len(kept), signature)
            kept.append(sketch)
            yield None

    def _grams(self, text: str) -> list[str]:
        """All n-grams, with repeats; a shorter text is one."""
        whole = text.encode(errors="backslashreplace").decode()  # half of a character cannot be hashed
        size = self.ngram
        if self.unit == "characters":
            return [whole[begin : begin + size] for begin in range(max(1, len(whole) - size + 1))]
        found = words(whole)
        return ["\0".join(found[begin : begin + size]) for begin in range(max(1, len(found) - size + 1))]

    def _near(self, ours: Sketch, theirs: Sketch) -> bool:
        """Whether two sketches are as similar as the threshold, as far as both say everything."""
        import numpy as np

        size = 2 * self.permutations
        limit = min((sketch[-1] for sketch in (ours, theirs) if len(sketch) == size), default=_MOST)
        union = np.concatenate([sketch[: np.searchsorted(sketch, limit, "right")] for sketch in (ours, theirs)])
        union.sort()
        both = np.count_nonzero(union[1:] == union[:-1])
        return bool(both >= (self.threshold - 1e-9) * (len(union) - both))


def _sketch(hashes: list[int], size: int) -> Sketch:
    """The least different hashes of a text's n-grams, in order, stirred first so that they are a fair sample."""
    import numpy as np

    stirred = np.array(hashes, dtype=np.uint64) * np.uint64(_STIR) >> np.uint64(32)
    return np.unique(stirred.astype(np.uint32))[:size].copy()


def bands_of(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many rows find a pair at the threshold with a chance of 0.99, and others seldom."""
    for rows in range(permutations, 1, -1):
        if 1 - (1 - threshold**rows) ** (permutations // rows) >= 0.99:
            return permutations // rows, rows
    return permutations, 1


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise MissingExtra("rensa", "filters") from None
    return rensa
