"""Equal texts and groups of like ones: the only place that drops records by what a comparison of two texts says.

Invariant: of equal texts the first is kept, and of each group exactly one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import permutations
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError
from synthkd.filters.parts import By, Of, checked_of, in_batches, kind_of, text_of, value_of
from synthkd.filters.words import smoothed
from synthkd.record import Record

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

Same = Callable[[list[tuple[str, str]]], Sequence[Any]]
"""From pairs of texts to how sure it is that the first says what the second says: 0 to 1, or false and true."""


def exact(of: Of = "all", *, normalise: bool | Callable[[str], str] = True) -> Filter[Record]:
    """Drop each "exact duplicate" of a text that came before; records stream, 16 bytes of each kept text stay.

    Args:
        of: Which text is compared; see `Of`. By default prompt and completion, so that two answers to one prompt stay.
        normalise: Whether letter case, white space and compatible characters are left out of it; or a function that
            gives what is compared.
    """
    checked_of(of, "exact")
    return _Exact(of, normalise)


def clusters(
    same: Same,
    threshold: float = 0.5,
    *,
    of: Of = "completion",
    within: By | None = None,
    best: By | None = None,
    batch: int = 64,
) -> Filter[Record]:
    """Keep one record of each group of texts that say the same; the others are in the "same cluster".

    Two texts are linked where `same` is sure of it both ways, and a group is what links connect. All pairs of records
    with equal `within` are compared, so without it the cost is the square of all records. It sees all records before it
    answers, and holds their texts.

    Args:
        same: Such as a model that says whether one text entails the other; it is given pairs in batches.
        threshold: From which sureness on two texts are linked.
        of: Which text is compared; see `Of`.
        within: Only records that have this value in common are compared, such as the record they were made from.
        best: Keep the record of a group with the highest of these values; by default the first.
        batch: Pairs that `same` is given at a time.

    Raises:
        ConfigError: While filtering, `same` does not give one value a pair.

    Reference: Jung et al. 2023, Impossible Distillation (DimSum+), arXiv:2305.16635.
    """
    checked_of(of, "clusters")
    if batch < 1:
        raise ConfigError(f"clusters(batch={batch!r}): expected at least 1 pair at a time.")
    return _Clusters(same, threshold, of, within, best, batch)


@dataclass(frozen=True)
class _Exact:
    of: Of
    normalise: bool | Callable[[str], str]

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        seen: set[bytes] = set()
        for record in records:
            text = text_of(record, self.of, "exact")
            if self.normalise is not False:
                text = smoothed(text) if self.normalise is True else self.normalise(text)
            digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
            yield "exact duplicate" if digest in seen else None
            seen.add(digest)


@dataclass(frozen=True)
class _Clusters:
    same: Same
    threshold: float
    of: Of
    within: By | None
    best: By | None
    batch: int

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        texts: list[str] = []
        groups: dict[str, list[int]] = {}
        worth: list[float] = []
        for place, record in enumerate(records):
            texts.append(text_of(record, self.of, "clusters"))
            key = kind_of(value_of(record, self.within, "clusters")) if self.within is not None else ""
            groups.setdefault(key, []).append(place)
            worth.append(self._worth(record))
        leader = list(range(len(texts)))
        for places in groups.values():
            self._link(places, texts, leader)
        kept: dict[int, int] = {}
        for place in range(len(texts)):
            head = _head(leader, place)
            if head not in kept or worth[place] > worth[kept[head]]:
                kept[head] = place
        for place in range(len(texts)):
            yield None if kept[_head(leader, place)] == place else "same cluster"

    def _worth(self, record: Record) -> float:
        if self.best is None:
            return 0.0
        value = value_of(record, self.best, "clusters")
        return float("-inf") if value is None else float(value)

    def _link(self, places: list[int], texts: list[str], leader: list[int]) -> None:
        """Ask about each ordered pair, and join those that are sure of both orders."""
        sure: set[tuple[int, int]] = set()
        for pairs in in_batches(permutations(places, 2), self.batch):
            found = self.same([(texts[a], texts[b]) for a, b in pairs])
            if len(found) != len(pairs):
                raise ConfigError(
                    f"same() gave clusters() {len(found)} values for {len(pairs)} pairs; expected one each."
                )
            sure.update(pair for pair, value in zip(pairs, found, strict=True) if float(value) >= self.threshold)
        for a, b in sure:
            if a < b and (b, a) in sure:
                low, high = sorted((_head(leader, a), _head(leader, b)))
                leader[high] = low


def _head(leader: list[int], place: int) -> int:
    while leader[place] != place:
        leader[place] = leader[leader[place]]
        place = leader[place]
    return place
