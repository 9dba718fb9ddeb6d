"""MinHash: the only place that finds near duplicates among many texts by n-grams in common.

Texts that agree in a band of their signatures are compared by their sketches, so that a chance agreement drops nothing.
Invariant: the first of near duplicates is kept, and the verdicts do not depend on how records fall into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthkd.errors import ConfigError
from synthkd.filters.dedup.index import Index
from synthkd.filters.dedup.shingles import Unit, band_keys, bands_of, shingled, signatures, sketched
from synthkd.filters.parts import Of, checked_of, text_of
from synthkd.filters.words import smoothed
from synthkd.record import Record

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

_BATCH = 512
_BATCH_LETTERS = 1 << 20


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
    a chance of 0.99, a more similar one nearly always. Records are judged in small batches; of each kept text its
    n-grams stay in memory as numbers, about 1.3 kilobytes at most. Many texts that share most of a template,
    and yet stay below the threshold, are all compared with each other: give `of` the part that differs.

    Args:
        threshold: From this share of common n-grams on; above 0, at most 1.
        ngram: Characters, or words, in an n-gram.
        unit: `characters` suits short texts and every script, `words` long ones.
        permutations: Hashes in a signature; more find pairs more surely and estimate better, and cost time and memory.
        of: Which text is compared; see `Of`.

    Raises:
        ConfigError: An argument makes no sense; while filtering, a record that has no such text.

    Reference: Broder 1997, On the resemblance and containment of documents; Lee et al. 2021, Deduplicating Training
        Data Makes Language Models Better, arXiv:2107.06499.
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
    return _MinHash(threshold, ngram, unit, permutations, of)


@dataclass(frozen=True)
class _MinHash:
    threshold: float
    ngram: int
    unit: Unit
    permutations: int
    of: Of

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        index = Index(self.threshold)
        bands, rows = bands_of(self.threshold, self.permutations)
        for batch in _batches(smoothed(text_of(record, self.of, "minhash")) for record in records):
            hashes, begins = shingled(batch, self.ngram, self.unit)
            keys = band_keys(signatures(hashes, begins, self.permutations), bands, rows)
            for kept in index.added(sketched(hashes, begins, 2 * self.permutations), keys):
                yield None if kept else "near duplicate"


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    letters = 0
    for text in texts:
        batch.append(text)
        letters += len(text)
        if len(batch) == _BATCH or letters >= _BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
