"""From what a pilot took to what all records will take: the only place that extrapolates.

Every figure belongs to the source record that it was spent on, and a range comes from how much these differ: Student's
interval for a total, with the finite-population correction. 95 % of such ranges hold the truth where the figures of
single records are not skewed, about 90 % where they are as the lengths of answers (8 of 500 log-normal values); what is
rare is missed by a small pilot. Invariant: a pilot of all records gives the truth itself, and no range begins below
what the pilot has taken.

Reference: Cochran 1977, Sampling Techniques, section 2.8.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev

_SURE = 0.95


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value and what it lies between."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage will take when all records are there."""

    name: str
    records: Range
    """Records that come in."""
    calls: Range
    """Completions drawn."""
    prompt_tokens: Range
    completion_tokens: Range
    cost: Range | None
    """US dollars; None where a teacher's price is unknown."""
    seconds: Range
    """From as fast as the endpoints' limits allow, to no more calls at a time than the pilot made."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a pipeline will take."""

    stages: list[StageEstimate]
    total: StageEstimate
    pilot: int
    """Records that the pilot took of the source, or of the largest of several."""
    of: int
    """Records that it has."""
    paid_calls: int
    """Calls that the pilot made; those it found in the journal are not among them."""
    paid: float | None
    """US dollars that they cost."""
    unfinished: str
    """Why the pilot ended before the pipeline's last line, where it did."""


Origin = tuple[int, str]
"""The number of a source, and the id of a record of it."""


@dataclass(slots=True)
class Source:
    """Records that came from outside."""

    roots: list[str]
    """Ids of the records that the pilot took."""
    total: int


@dataclass(slots=True)
class Measured:
    """What one stage of the pilot took."""

    name: str
    records: Counter[Origin]
    """Records that came in."""
    took: defaultdict[str, defaultdict[Origin, float]] = field(default_factory=lambda: _figures())
    """Calls, prompt_tokens, completion_tokens, cost as far as it is known, and the seconds of its calls."""
    busy: defaultdict[str, defaultdict[Origin, float]] = field(default_factory=lambda: _figures())
    """By endpoint: the seconds for which calls to it were under way."""
    priced: bool = True
    """Whether the price of every call is known."""
    places: dict[str, int] = field(default_factory=dict)
    """How many calls an endpoint takes at a time."""


def _figures() -> defaultdict[str, defaultdict[Origin, float]]:
    return defaultdict(lambda: defaultdict(float))


def extrapolated(measured: Measured, sources: Sequence[Source]) -> StageEstimate:
    """What a stage will take."""
    records = total(measured.records, sources)
    chains = [seconds / measured.records[origin] for origin, seconds in measured.took["seconds"].items()]
    expected = low = high = fmean(chains) if chains else 0.0  # not less than one record after the other
    for endpoint, most in measured.places.items():
        busy = total(measured.busy[endpoint], sources)
        places = min(most, max(records.expected, 1.0))
        few = min(places, sum(measured.records.values()))
        expected, low = max(expected, busy.expected / places), max(low, busy.low / places)
        high = max(high, busy.high / few)
    return _estimate(measured.name, records, measured.took, sources, measured.priced, Range(expected, low, high))


def summed(stages: Sequence[StageEstimate], measured: Sequence[Measured], sources: Sequence[Source]) -> StageEstimate:
    """All stages together; a record that is dear in one may be so in all, so records are summed, not ranges."""
    whole = _figures()
    for one in measured:
        for name, figures in one.took.items():
            for origin, value in figures.items():
                whole[name][origin] += value
    seconds = [stage.seconds for stage in stages]
    time = Range(sum(s.expected for s in seconds), sum(s.low for s in seconds), sum(s.high for s in seconds))
    return _estimate("all", stages[0].records, whole, sources, all(one.priced for one in measured), time)


def _estimate(
    name: str,
    records: Range,
    took: Mapping[str, Mapping[Origin, float]],
    sources: Sequence[Source],
    priced: bool,
    seconds: Range,
) -> StageEstimate:
    calls, asked, answered, cost = (
        total(took.get(figure, {}), sources) for figure in ("calls", "prompt_tokens", "completion_tokens", "cost")
    )
    return StageEstimate(name, records, calls, asked, answered, cost if priced else None, seconds)


def total(values: Mapping[Origin, float], sources: Sequence[Source]) -> Range:
    """The sum over all records of the sources, from those of the pilot; one without a value took nothing."""
    expected = variance = seen = 0.0
    for number, source in enumerate(sources):
        taken = [float(values.get((number, root), 0.0)) for root in source.roots]
        if not taken:
            continue
        expected += source.total * fmean(taken)
        seen += sum(taken)
        if len(taken) < source.total:
            left = 1 - len(taken) / source.total
            error = stdev(taken) / math.sqrt(len(taken)) * math.sqrt(left)
            variance += (source.total * error * _student(len(taken) - 1)) ** 2
    half = math.sqrt(variance)
    return Range(expected, max(expected - half, seen), expected + half)


def _student(degrees: int) -> float:
    """The quantile of Student's t that leaves 2.5 % above it (an expansion around the normal one, from 5 on)."""
    if degrees < 5:
        return (12.706, 4.303, 3.182, 2.776)[degrees - 1]
    z = NormalDist().inv_cdf(0.5 + _SURE / 2)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
